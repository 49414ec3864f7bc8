package examples

import (
	"encoding/json"
	"net"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/gateway"
)

func adapt(t *testing.T, text string) []byte {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range warnings {
		t.Errorf("%s", warning)
	}
	return config
}

// runCaddyfile runs a Caddyfile until the test ends, edited perhaps. The ports
// of the admin API, the log and the storage belong to other tests and to the
// reader.
func runCaddyfile(t *testing.T, file string, edits ...func(config map[string]any)) {
	t.Helper()
	var config map[string]any
	if err := json.Unmarshal(adapt(t, read(t, file)), &config); err != nil {
		t.Fatal(err)
	}
	config["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": false}}
	config["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "ERROR"}}}
	config["storage"] = storage(t)
	for _, edit := range edits {
		edit(config)
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, text)
}

// storage is where Caddy keeps what it makes, such as its own authority.
func storage(t *testing.T) map[string]any {
	return map[string]any{"module": "file_system", "root": t.TempDir()}
}

func validate(t *testing.T, config []byte) {
	t.Helper()
	var parsed caddy.Config
	// "@id" is for the admin API, which takes it out as well
	if err := caddy.StrictUnmarshalJSON(caddy.RemoveMetaFields(config), &parsed); err != nil {
		t.Fatal(err)
	}
	var err error
	if parsed.StorageRaw, err = json.Marshal(storage(t)); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Error(err)
	}
}

// run runs a configuration until the test ends.
func run(t *testing.T, config []byte) {
	t.Helper()
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
