package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/celauthz"
	"github.com/caddymcp/gateway/internal/mcpwire"
)

// configuration is a configuration that was read and not started.
type configuration struct {
	file     string
	handlers []*handler
}

// handler is one mcp_authorize of it.
type handler struct {
	*celauthz.Handler `json:"-"`

	Number int `json:"handler"`
	// Path leads to it in the JSON configuration.
	Path   string   `json:"path"`
	ID     string   `json:"id,omitzero"`
	Target string   `json:"target,omitzero"`
	Rules  []string `json:"rules"`
}

var errNoConfig = errors.New("there is no configuration: name one with --config")

// loadConfig reads a configuration as Caddy does, and compiles the rules of
// every mcp_authorize in it.
func loadConfig(c *call) (*configuration, error) {
	text, file, _, err := caddycmd.LoadConfig(c.text("config"), c.text("adapter"))
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, errNoConfig
	}
	found := &configuration{file: file}
	if err := found.search(text, ""); err != nil {
		return nil, err
	}
	if len(found.handlers) == 0 {
		return nil, fmt.Errorf("%s has no mcp_authorize", file)
	}
	return found, nil
}

// search finds the handlers below a JSON value, in the order of the text.
func (c *configuration) search(value jsontext.Value, path string) error {
	switch value.Kind() {
	case '[':
		elements, err := mcpwire.Elements(value, len(value))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i, element := range elements {
			if err := c.search(element, path+"/"+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	case '{':
		var members []string
		values := make(map[string]jsontext.Value)
		err := mcpwire.Object(value, func(name string, value jsontext.Value) error {
			members, values[name] = append(members, name), value.Clone()
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if name, _ := mcpwire.String(values["handler"]); name == "mcp_authorize" {
			return c.add(members, values, path)
		}
		for _, name := range members {
			if err := c.search(values[name], path+"/"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// add decodes a handler as Caddy does when the configuration loads.
func (c *configuration) add(members []string, values map[string]jsontext.Value, path string) error {
	h := &handler{Handler: new(celauthz.Handler), Number: len(c.handlers) + 1, Path: path}
	h.ID, _ = mcpwire.String(values["@id"])
	text := []byte{'{'}
	for _, name := range members {
		if name == "handler" || strings.HasPrefix(name, "@") {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(mcpwire.Quote(text, name), ':')
		text = append(text, values[name]...)
	}
	err := caddy.StrictUnmarshalJSON(append(text, '}'), h.Handler)
	if err == nil {
		err = h.Compile()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	h.Target, h.Rules = h.Handler.Target, h.RuleNames()
	c.handlers = append(c.handlers, h)
	return nil
}

// choose finds the handler that is meant: by its number, its target or its
// @id. Nothing means the only one.
func (c *configuration) choose(which string) (*handler, error) {
	if which == "" {
		if len(c.handlers) > 1 {
			return nil, fmt.Errorf("%s has several mcp_authorize; say which one: %s", c.file, c.list())
		}
		return c.handlers[0], nil
	}
	var chosen []*handler
	for _, h := range c.handlers {
		if which == strconv.Itoa(h.Number) || which == h.Target || which == h.ID {
			chosen = append(chosen, h)
		}
	}
	if len(chosen) != 1 {
		return nil, fmt.Errorf("%d mcp_authorize are called %q; there are %s", len(chosen), which, c.list())
	}
	return chosen[0], nil
}

func (c *configuration) list() string {
	names := make([]string, 0, len(c.handlers))
	for _, h := range c.handlers {
		names = append(names, h.String())
	}
	return strings.Join(names, ", ")
}

// String tells one handler from the others.
func (h *handler) String() string {
	name := strconv.Itoa(h.Number)
	for _, more := range []string{h.Target, h.ID} {
		if more != "" {
			name += " " + strconv.Quote(more)
		}
	}
	return name + " at " + h.Path
}
