package alert

// DataSet is a kind of observation.
type DataSet string

// The data sets that rules can ask.
const (
	DataAgent   DataSet = "agent"
	DataPBX     DataSet = "pbx_status"
	DataTrunk   DataSet = "trunk_state"
	DataService DataSet = "service_state"
	DataProbe   DataSet = "probe_window"
	DataBackup  DataSet = "backup"
)

// unit says how a field is compared and worded.
type unit int

const (
	unitText unit = iota
	unitNumber
	unitRatio   // 0…1
	unitSeconds // a duration
	unitTime    // Unix milliseconds
	unitFlag    // 0 or 1
)

func (u unit) numeric() bool { return u != unitText }

// fields is what each data set holds. A rule may only ask for what is listed here.
var fields = map[DataSet]map[string]unit{
	DataAgent: {"name": unitText, "silent_s": unitSeconds},
	DataPBX: {"name": unitText, "state": unitText, "detail": unitText, "version": unitText,
		"answer_ms": unitNumber, "disk_used_percent": unitNumber},
	DataTrunk: {"name": unitText, "number": unitText, "host": unitText, "kind": unitText, "fail_code": unitText,
		"registered": unitFlag, "registration_needed": unitFlag, "configuration_issue": unitFlag},
	DataService: {"name": unitText, "title": unitText, "status": unitText},
	DataProbe: {"name": unitText, "method": unitText, "address": unitText, "fault": unitText,
		"loss_ratio": unitRatio, "sent": unitNumber, "lost": unitNumber, "rtt_p50_us": unitNumber, "jitter_us": unitNumber},
	DataBackup: {"name": unitText, "age_s": unitSeconds, "never": unitFlag, "newest_ms": unitTime,
		"count": unitNumber, "repository": unitText, "scheduled": unitFlag},
}

// Field is one named value of an observation: text, or a number.
type Field struct {
	Name string
	Text string
	Num  float64
}

// field returns the named field; false when the observation does not have it, which
// means "not known".
func field(list []Field, name string) (Field, bool) {
	for i := range list {
		if list[i].Name == name {
			return list[i], true
		}
	}
	return Field{}, false
}
