package mcpproxy

import (
	"errors"
	"net"
	"net/http"

	"github.com/caddymcp/gateway/internal/reqctx"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// maxHeldBody bounds, in bytes, a body of which the upstream hears nothing
// before all of it is there. A client that sends slowly then holds no
// connection to the upstream, and header and body leave in one write. Larger
// bodies, and those of unknown length, pass as they come.
const maxHeldBody = 64 << 10

// hasUnreadBody reports whether there is a body that may not have come yet,
// since no handler in front has read it.
func (x *exchange) hasUnreadBody() bool {
	// Caddy wraps http.NoBody as well
	if x.state != nil && x.state.Message != nil || x.client.Body == nil || x.client.ContentLength == 0 {
		return false
	}
	_, whole := x.client.Body.(*reqctx.Body)
	return !whole
}

// holdBody reads a small body into memory. A server over stdin gets none
// before it is whole in any case.
func (x *exchange) holdBody() error {
	if length := x.client.ContentLength; length <= 0 || length > maxHeldBody || x.handler.Stdio != nil {
		return nil
	}
	_, err := reqctx.ReadBody(x.client)
	return err
}

// refuseBody answers a request whose body could not be read. Nothing of it
// has gone to the upstream.
func (x *exchange) refuseBody(w http.ResponseWriter, err error) error {
	var timeout net.Error
	if errors.Is(err, slowbody.Err) || errors.As(err, &timeout) && timeout.Timeout() {
		return refuse(w, x.client, http.StatusRequestTimeout, reasonSlowBody, slowbody.Err.Error())
	}
	return refuse(w, x.client, http.StatusBadRequest, reasonBadRequest, "the request body could not be read")
}
