package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"sidetone/collector/internal/collectord"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token that admits one agent to a site. It is shown once."`
}

type tokenCreateCmd struct {
	storeFlags
	addrFlags
	Tenant   string        `required:"" help:"The MSP or company that owns the data; made when new."`
	Customer string        `help:"The tenant's customer; made when new (default: the tenant's name)."`
	Site     string        `required:"" help:"Where the PBX stands; made when new."`
	Uses     int           `default:"1" help:"How many agents the token admits."`
	TTL      time.Duration `name:"ttl" default:"24h" help:"How long the token is good for."`
	Quiet    bool          `short:"q" help:"Print the token alone."`
}

func (t *tokenCreateCmd) Run() error {
	c, err := load(t.storeFlags, t.addrFlags, nil)
	if err != nil {
		return err
	}
	if err := becomeOwner(c.DataDir); err != nil {
		return err
	}
	if t.Customer == "" {
		t.Customer = t.Tenant
	}
	token, expires, err := collectord.CreateToken(context.Background(), c, collectord.TokenSpec{
		Tenant: t.Tenant, Customer: t.Customer, Site: t.Site, Uses: t.Uses, TTL: t.TTL,
	})
	if err != nil {
		return err
	}
	if t.Quiet {
		fmt.Println(token)
		return nil
	}
	fmt.Println(token)
	fmt.Fprintf(os.Stderr, "\nGood until %s, for %d agent(s). On the machine beside the PBX:\n  sudo sidetone-agent enrol %s\n",
		expires.Format("2006-01-02 15:04 MST"), t.Uses, token)
	return nil
}
