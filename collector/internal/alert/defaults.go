package alert

import "time"

// Defaults returns the rules that are on by default.
//
// The trunk rule fires at the first observation: readings are 10 s apart and the
// message has to be out within 20 s of the drop, so that there is no second reading to
// wait for. The agent's silence clears only below 15 s for 20 s: after a restart of
// the collector its count of silence begins again at zero, and an agent that is still
// silent must not look heard.
func Defaults() []Rule {
	return []Rule{agentSilent(), pbxUnreachable(), trunkUnregistered(), serviceStopped(), packetLoss(), backupOld()}
}

func agentSilent() Rule {
	return Rule{
		ID: "agent-silent", DataSet: DataAgent, Severity: Critical,
		Condition: []Test{{Field: "silent_s", Op: AtLeast, Value: 60}},
		Clear:     []Test{{Field: "silent_s", Op: Below, Value: 15}},
		ClearFor:  20 * time.Second,
		Title:     "Agent silent",
		Summary:   "The agent on {name} has not been heard for {silent_s}: the state of its PBX is not known.",
		Cleared:   "The agent on {name} is heard again.",
		Advice: "See whether the machine runs and reaches the collector (UDP, outbound). On the machine, " +
			"\"sidetone-agent doctor\" names the cause. What was measured meanwhile arrives later.",
		Evidence: []Label{{"name", "Host"}, {"silent_s", "Silent for"}},
	}
}

func pbxUnreachable() Rule {
	return Rule{
		ID: "pbx-unreachable", DataSet: DataPBX, Severity: Critical,
		Condition: []Test{{Field: "state", Op: In, Any: []string{"unreachable", "auth_failed"}}}, FireFor: 30 * time.Second,
		Clear: []Test{{Field: "state", Op: Equal, Text: "ok"}}, ClearFor: 10 * time.Second,
		NoDataAfter: 5 * time.Minute,
		Title:       "PBX unreachable",
		Summary:     "{name} does not answer its agent[: {detail}].",
		Cleared:     "{name} answers again.",
		Advice:      "See whether the PBX and its web server run. Calls may still work: only the agent's view is lost.",
		Variants: []Variant{{
			When:    []Test{{Field: "state", Op: Equal, Text: "auth_failed"}},
			Title:   "PBX refuses the agent's sign-in",
			Summary: "{name} answers, but refuses the agent's credentials[: {detail}].",
			Advice: "Check the [pbx] section of the agent's file: client id and secret, or user and password, " +
				"and the role of that account. \"sidetone-agent doctor\" tries it at once.",
		}},
		Evidence: []Label{{"state", "State"}, {"detail", "Detail"}},
	}
}

func trunkUnregistered() Rule {
	return Rule{
		ID: "trunk-unregistered", DataSet: DataTrunk, Severity: Critical,
		Where: []Test{{Field: "kind", Op: Equal, Text: "provider"}, {Field: "registration_needed", Op: Equal, Value: 1}},
		// An observation is a fact of the PBX, not a sample of something noisy.
		Condition: []Test{{Field: "registered", Op: Equal, Value: 0}}, FireFor: 0, ClearFor: 10 * time.Second,
		NoDataAfter: 5 * time.Minute,
		Title:       "Trunk not registered",
		Summary:     "Trunk {name}[ ({number})] is not registered[ at {host}]: calls over it fail.",
		Cleared:     "Trunk {name}[ ({number})] is registered again.",
		Advice: "Ask the carrier for its state and compare with other sites on the same carrier. At the site, check " +
			"the access line, the trunk's credentials and whether a firewall or SIP ALG changed.",
		Evidence: []Label{{"name", "Trunk"}, {"number", "Number"}, {"host", "Registrar"},
			{"fail_code", "Failure code"}, {"configuration_issue", "Configuration issue"}},
	}
}

func serviceStopped() Rule {
	return Rule{
		ID: "service-stopped", DataSet: DataService, Severity: Critical,
		Condition: []Test{{Field: "status", Op: In, Any: []string{"Stopped", "Paused"}}}, FireFor: 20 * time.Second,
		Clear: []Test{{Field: "status", Op: Equal, Text: "Running"}}, ClearFor: 10 * time.Second,
		NoDataAfter: 5 * time.Minute,
		Title:       "PBX service stopped",
		Summary:     "The service {title} is not running ({status}).",
		Cleared:     "The service {title} runs again.",
		Advice:      "Start it in the management console under Services, and read the event log for the reason.",
		Evidence:    []Label{{"title", "Service"}, {"name", "Name"}, {"status", "Status"}},
	}
}

// packetLoss judges the ratio over 30 s, so that a lone lost attempt in a window of ten
// (10 %) does not start, and a lone good window does not end, what lasts for a minute.
func packetLoss() Rule {
	return Rule{
		ID: "packet-loss", DataSet: DataProbe, Severity: Warning,
		Condition: []Test{{Field: "loss_ratio", Op: Above, Value: 0.03}}, FireFor: 60 * time.Second,
		Clear: []Test{{Field: "loss_ratio", Op: Below, Value: 0.01}}, ClearFor: 60 * time.Second,
		Rolling:     &Rolling{Field: "loss_ratio", Part: "lost", Whole: "sent", Over: 30 * time.Second},
		NoDataAfter: 5 * time.Minute,
		Title:       "Packet loss",
		Summary:     "{loss_ratio} of the packets to {name}[ ({address})] are lost, for a minute or longer.",
		Cleared:     "Packets to {name}[ ({address})] arrive again.",
		Advice: "Compare with the other targets of the site: all of them points to the access line, one of them to " +
			"that path. Loss above 1 % is heard in calls.",
		Evidence: []Label{{"name", "Target"}, {"method", "Method"}, {"address", "Address"},
			{"loss_ratio", "Packet loss ratio, 30 s"}, {"fault", "Last cause"}},
	}
}

func backupOld() Rule {
	return Rule{
		ID: "backup-old", DataSet: DataBackup, Severity: Warning,
		// No backup at all counts as one of infinite age.
		Condition: []Test{{Field: "age_s", Op: Above, Value: (48 * time.Hour).Seconds()}},
		Title:     "Backup older than two days",
		Summary:   "The newest backup of the PBX is {age_s} old.",
		Cleared:   "The PBX has a fresh backup.",
		Advice: "Look at the backup schedule, its location and the free space there; run one by hand and read " +
			"the event log for its error.",
		Variants: []Variant{{
			When:    []Test{{Field: "never", Op: Equal, Value: 1}},
			Title:   "No backup",
			Summary: "The PBX holds no backup at all.",
			Advice:  "Set up a scheduled backup, to another machine and encrypted.",
		}},
		Evidence: []Label{{"newest_ms", "Newest backup"}, {"age_s", "Age"}, {"count", "Backups kept"},
			{"scheduled", "Schedule on"}, {"repository", "Location"}},
	}
}
