package collectord

import "testing"

func TestOneAddress(t *testing.T) {
	for _, c := range []struct {
		agents, web   string
		shared, clash bool
	}{
		{":443", ":443", true, false},
		{"192.0.2.1:443", "192.0.2.1:443", true, false},
		{":443", ":8443", false, false},
		{":443", "127.0.0.1:443", false, true},
		{"127.0.0.1:0", "127.0.0.1:0", false, false},
		{"nonsense", "nonsense", false, false},
	} {
		if shared, clash := oneAddress(c.agents, c.web); shared != c.shared || clash != c.clash {
			t.Errorf("agents %s, web %s: shared %t, clash %t", c.agents, c.web, shared, clash)
		}
	}
}
