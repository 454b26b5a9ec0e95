package collectord

import (
	"fmt"

	"sidetone/collector/internal/config"
	"sidetone/collector/internal/notify"
	"sidetone/collector/internal/notify/smtp"
	"sidetone/collector/internal/notify/webhook"
	"sidetone/collector/internal/outbound"
)

// openChannels makes a sender for each configured channel; all of them reach out
// through one address guard.
func openChannels(cfg config.Config) ([]notify.Channel, error) {
	allow, err := cfg.Outbound.Prefixes()
	if err != nil {
		return nil, err
	}
	out := outbound.New(outbound.Config{Allow: allow})
	channels := make([]notify.Channel, 0, len(cfg.Channels))
	for _, c := range cfg.Channels {
		var sender notify.Sender
		switch c.Kind {
		case notify.KindSMTP:
			sender, err = smtp.New(c, out.DialContext)
		case notify.KindWebhook:
			sender, err = webhook.New(c, out)
		default:
			err = fmt.Errorf("channel %q: kind %q is not known", c.Name, c.Kind)
		}
		if err != nil {
			return nil, err
		}
		channels = append(channels, notify.Channel{Config: c, Sender: sender})
	}
	return channels, nil
}
