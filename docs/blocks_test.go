package docs_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// TestCaddyfiles: every Caddyfile in the documentation is formatted as `caddy
// fmt` does it, and loads.
func TestCaddyfiles(t *testing.T) {
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if b.lang != "caddyfile" {
				continue
			}
			t.Run(fmt.Sprintf("%s:%d", page, b.line), func(t *testing.T) {
				if formatted := string(caddyfile.Format([]byte(b.text))); formatted != b.text {
					t.Errorf("not formatted, should be:\n%s", formatted)
				}
				if err := caddy.Validate(config(t, b.text, t.TempDir())); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestJSON: every JSON in the documentation is what the Caddyfile before it
// adapts to, which TestCaddyfiles loads.
func TestJSON(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		var example *block
		for _, b := range blocks(t, page) {
			switch b.lang {
			case "caddyfile":
				example = b
			case "json":
				found++
				t.Run(fmt.Sprintf("%s:%d", page, b.line), func(t *testing.T) { compareJSON(t, example, b) })
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d blocks of JSON found", found)
	}
}

func compareJSON(t *testing.T, example, b *block) {
	if example == nil {
		t.Fatal("no Caddyfile precedes it")
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(b.text), &want); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	adapted := string(config(t, example.text, dir).AppsRaw["http"])
	var app any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(adapted, dir+"/", "/etc/caddy/")), &app); err != nil {
		t.Fatal(err)
	}
	handlers := find(app, want["handler"])
	for _, handler := range handlers {
		if reflect.DeepEqual(handler, want) {
			return
		}
	}
	got, err := json.MarshalIndent(handlers, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("the Caddyfile adapts to:\n%s", got)
}

// find returns the handlers of a name in a configuration.
func find(config, name any) (handlers []map[string]any) {
	switch v := config.(type) {
	case []any:
		for _, element := range v {
			handlers = append(handlers, find(element, name)...)
		}
	case map[string]any:
		if v["handler"] == name {
			handlers = append(handlers, v)
		}
		for _, element := range v {
			handlers = append(handlers, find(element, name)...)
		}
	}
	return handlers
}
