package docs_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/prometheus/client_golang/prometheus"

	_ "github.com/caddymcp/gateway"
)

// keySet holds the public key of RFC 8037 appendix A, which the examples show
// as well, and a symmetric key. It is what the files below /etc/caddy/ hold,
// except those whose names end in .pem or .key.
const keySet = `{"keys":[` +
	`{"kty":"OKP","crv":"Ed25519","kid":"2026-01","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},` +
	`{"kty":"oct","kid":"shared","alg":"HS256","k":"` + sharedKey + `"}]}`

// privateKey belongs to the public key, sharedKey is the symmetric one.
const (
	privateKey = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	sharedKey  = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr8"
)

// sessionKey is what the files hold whose names end in .key.
const sessionKey = "c2Vzc2lvbnMgb2YgdGhlIGV4YW1wbGVzIG9ubHksIG9mIG5vYm9keQ=="

// certificate is one in PEM, whosever it may be.
var certificate = func() string {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}()

// logFolder is where the examples write their access logs.
const logFolder = "/var/log/caddy"

// upstream is where the examples expect the MCP server.
const upstream = "127.0.0.1:3001"

// signed makes a token of claims, which may replace what every token has. Header fields
// replace those of an ordinary token in the same way; null removes one.
func signed(header, claims string) string {
	fields := map[string]any{"alg": "EdDSA", "kid": "2026-01", "typ": "at+jwt"}
	merge(fields, header)
	body := map[string]any{"iss": "https://idp.example.com", "aud": "https://mcp.example.com/mcp", "exp": 4102444800}
	merge(body, claims)
	input := part(fields) + "." + part(body)
	if fields["alg"] == "HS256" {
		key, _ := base64.RawURLEncoding.DecodeString(sharedKey)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	seed, _ := base64.RawURLEncoding.DecodeString(privateKey)
	signature := ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func merge(into map[string]any, text string) {
	changes := map[string]any{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &changes); err != nil {
			panic(err)
		}
	}
	maps.Copy(into, changes)
	maps.DeleteFunc(into, func(_ string, value any) bool { return value == nil })
}

func part(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

var (
	namedFile   = regexp.MustCompile(`/etc/caddy/([a-z0-9.-]+)`)
	siteAddress = regexp.MustCompile(`(?m)^([a-z0-9.:/*-]*[.:][a-z0-9.:/*-]*)(?: .*)?\{$`)
)

// isWhole tells a whole Caddyfile from the inside of a site.
func isWhole(text string) bool {
	return strings.HasPrefix(text, "{") || siteAddress.MatchString(text)
}

// host is the one that requests to an example name.
func host(text string) string {
	if m := siteAddress.FindStringSubmatch(text); m != nil {
		address := strings.TrimPrefix(strings.TrimPrefix(m[1], "http://"), "https://")
		if name, _, _ := strings.Cut(address, ":"); name != "" {
			return name
		}
	}
	return "localhost"
}

// config adapts a Caddyfile, whole or not, into a configuration that opens no
// port, and whose files are in a folder.
func config(t *testing.T, text, dir string) *caddy.Config {
	t.Helper()
	t.Setenv("MCP_KEYS", keySet)
	t.Setenv("MCP_UPSTREAM", upstream)
	t.Setenv("MCP_SERVER_TOKEN", "a token of the gateway")
	t.Setenv("MCP_SESSION_KEY", sessionKey)
	text = strings.ReplaceAll(text, logFolder, dir)
	text = namedFile.ReplaceAllStringFunc(text, func(name string) string {
		content := keySet
		switch filepath.Ext(name) {
		case ".pem":
			content = certificate
		case ".key":
			content = sessionKey
		}
		name = filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	})
	if !isWhole(text) {
		text = ":80 {\n\t" + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t") + "\n}\n"
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	cfg := new(caddy.Config)
	if err := json.Unmarshal(adapted, cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Admin = &caddy.AdminConfig{Disabled: true}
	if cfg.Logging == nil {
		cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{}}
	}
	if cfg.Logging.Logs["default"] == nil {
		cfg.Logging.Logs["default"] = new(caddy.CustomLog)
	}
	cfg.Logging.Logs["default"].WriterRaw = json.RawMessage(`{"output":"discard"}`)
	return cfg
}

// server is the MCP server behind the examples. It says so when a request
// has reached it, and has a few things to list.
type server struct{}

// reached is the header of its answers.
const reached = "Reached"

var inventory = map[string]string{
	"tools/list": `"tools":[{"name":"get_me"},{"name":"echo"},{"name":"list_repos"},` +
		`{"name":"create_repo"},{"name":"delete_repo"}]`,
	"prompts/list":             `"prompts":[{"name":"greet"},{"name":"review_repo"}]`,
	"resources/list":           `"resources":[{"uri":"docs://public/handbook"},{"uri":"docs://internal/salaries"}]`,
	"resources/templates/list": `"resourceTemplates":[{"uriTemplate":"repo://{owner}/{name}"}]`,
}

func init() { caddy.RegisterModule(server{}) }

// CaddyModule makes it a handler, for examples without a proxy.
func (server) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.docs_server", New: func() caddy.Module { return new(server) }}
}

func (server) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	var message struct{ Method string }
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			return err
		}
	}
	w.Header().Set(reached, r.URL.Path)
	if r.Header.Get("Break") == "encoding" {
		w.Header().Set("Content-Encoding", "br")
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := fmt.Fprintf(w, `{"jsonrpc":"2.0","id":7,"result":{%s}}`, inventory[message.Method])
	return err
}

// gateway is an example that answers requests.
type gateway struct {
	handler http.Handler
	host    string
	logs    string // the folder of its logs
	metrics prometheus.Gatherer
}

// serve loads an example. What it lacks is added: mcp_jwt in front, a server
// behind. Its configuration may be edited before.
func serve(t *testing.T, text string, edits ...func(*caddy.Config)) *gateway {
	t.Helper()
	g := &gateway{host: host(text), logs: t.TempDir()}
	if !strings.Contains(text, "mcp_jwt") {
		text = "mcp_jwt {\n\ttoken_cache off\n\tissuer https://idp.example.com {\n\t\tjwks file /etc/caddy/idp.json\n" +
			"\t\taudiences https://mcp.example.com/mcp\n\t}\n}\n" + text
	}
	if !strings.Contains(text, "mcp_proxy") && !strings.Contains(text, "reverse_proxy") {
		text += "respond served\n"
	}
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := (server{}).ServeHTTP(w, r, nil); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(behind.Close)

	cfg := config(t, text, g.logs)
	cfg.AppsRaw["http"] = json.RawMessage(strings.NewReplacer(
		`"`+upstream+`"`, `"`+behind.Listener.Addr().String()+`"`,
		`{"body":"served","handler":"static_response"}`, `{"handler":"docs_server"}`,
	).Replace(string(cfg.AppsRaw["http"])))
	for _, edit := range edits {
		edit(cfg)
	}
	ctx, err := caddy.ProvisionContext(cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	g.handler, g.metrics = app.(*caddyhttp.App).Servers["srv0"], ctx.GetMetricsRegistry()
	if g.handler == nil {
		t.Fatal("the example has no server")
	}
	return g
}

// ask sends a request.
func (g *gateway) ask(r *http.Request) *httptest.ResponseRecorder {
	r.Host = g.host
	answer := httptest.NewRecorder()
	g.handler.ServeHTTP(answer, r)
	return answer
}

// post is a message to the gateway, with a token if there is one.
func post(bearer, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return r
}
