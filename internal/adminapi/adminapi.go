// Package adminapi is the Caddy module admin.api.mcp: endpoints of Caddy's
// admin API that tell about the issuers and the rules of the running
// configuration.
//
//	GET  /mcp/issuers          the issuers, their keys, and how old they are
//	POST /mcp/issuers/refresh  fetch keys now: all, or those of one issuer
//	GET  /mcp/policies         the rules, as they were written
//	POST /mcp/explain          what the rules make of an operation, and why
//
// Caddy checks host and origin of every request to its admin API, and these
// are no exception. No answer holds a key, a password or what a placeholder
// stands for.
package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/gateway/internal/app"
)

func init() {
	caddy.RegisterModule(API{})
}

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 1 << 20

// API serves the endpoints. It has no options.
type API struct{}

// CaddyModule returns the Caddy module information.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.mcp", New: func() caddy.Module { return new(API) }}
}

// endpoint is what answers at a path: something that becomes JSON.
type endpoint struct {
	method string
	serve  func(mcp *app.App, r *http.Request, body []byte) (any, error)
}

var endpoints = map[string]endpoint{
	"/mcp/issuers":         {http.MethodGet, issuers},
	"/mcp/issuers/refresh": {http.MethodPost, refresh},
	"/mcp/policies":        {http.MethodGet, policies},
	"/mcp/explain":         {http.MethodPost, explain},
}

// Routes implements caddy.AdminRouter.
func (API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/mcp/", Handler: caddy.AdminHandlerFunc(serve)}}
}

func serve(w http.ResponseWriter, r *http.Request) error {
	served, ok := endpoints[r.URL.Path]
	if !ok {
		return failure(http.StatusNotFound, fmt.Errorf("there is no %s", r.URL.Path))
	}
	if r.Method != served.method {
		w.Header().Set("Allow", served.method)
		return failure(http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed", r.Method))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return failure(statusOf(err), err)
	}
	running, err := runningApp()
	if err != nil {
		return failure(http.StatusInternalServerError, err)
	}
	answer, err := served.serve(running, r, body)
	if err != nil {
		return err
	}
	doc, err := json.Marshal(answer)
	if err != nil {
		return failure(http.StatusInternalServerError, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, err = w.Write(append(doc, '\n'))
	return err
}

// runningApp is the app of the configuration in use; an empty one when it
// has no handler of the gateway.
func runningApp() (*app.App, error) {
	loaded, err := caddy.ActiveContext().AppIfConfigured(app.ID)
	if errors.Is(err, caddy.ErrNotConfigured) {
		return app.New(), nil
	}
	if err != nil {
		return nil, err
	}
	running, ok := loaded.(*app.App)
	if !ok {
		return nil, fmt.Errorf("the app %s is a %T", app.ID, loaded)
	}
	return running, nil
}

func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

func failure(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

// Interface guards
var (
	_ caddy.Module      = (*API)(nil)
	_ caddy.AdminRouter = (*API)(nil)
)
