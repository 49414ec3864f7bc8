package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// config is a Caddyfile, and what the quickstart has to know of it.
type config struct {
	file    string
	json    []byte   // in Caddy's native form
	listen  []string // addresses of the sites
	admin   string   // address of the admin API, empty when it is off
	warning []caddyconfig.Warning
}

func readConfig(file string) (*config, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w (start it in the root folder of the repository, or say -config)", err)
	}
	if err != nil {
		return nil, err
	}
	c := &config{file: file}
	c.json, c.warning, err = caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": file})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, c.readAddresses()
}

// readAddresses finds the addresses Caddy will listen on.
func (c *config) readAddresses() error {
	var parts struct {
		Admin struct {
			Disabled bool   `json:"disabled"`
			Listen   string `json:"listen"`
		} `json:"admin"`
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Listen []string `json:"listen"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(c.json, &parts); err != nil {
		return err
	}
	servers := parts.Apps.HTTP.Servers
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		c.listen = append(c.listen, servers[name].Listen...)
	}
	if len(c.listen) == 0 {
		return fmt.Errorf("%s has no site", c.file)
	}
	if !parts.Admin.Disabled {
		c.admin = parts.Admin.Listen
		if c.admin == "" {
			c.admin = caddy.DefaultAdminListen
		}
	}
	return nil
}
