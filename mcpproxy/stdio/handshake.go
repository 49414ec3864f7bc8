package stdio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// What is known of the servers of a bridge: it is a property of the program,
// so it is found out once.
const (
	eraUnknown = iota
	eraModern
	eraLegacy
)

// How long a server may take to answer.
const (
	// probeTimeout is for server/discover, which older servers may ignore.
	probeTimeout = 10 * time.Second
	// initializeTimeout is for initialize; the program may have to be
	// fetched first.
	initializeTimeout = 60 * time.Second
)

// The gateway's own messages to the process of stateless requests. It has no
// capabilities: nobody is there to be asked.
const (
	discoverRequest = `{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"` + mcpwire.VersionModern + `",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"caddy-mcp-gateway","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`
	initializeRequest = `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"caddy-mcp-gateway","version":"1"}}}`
	initializedNotification = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// modernErrors are what only a modern server answers server/discover with.
var modernErrors = []int64{mcpwire.CodeHeaderMismatch, mcpwire.CodeHeaderMismatch - 1, mcpwire.CodeUnsupportedVersion}

var errHandshake = errors.New("the server refused the handshake")

// handshake makes a process ready for stateless requests: a modern server is
// that by itself, an older one wants to be initialized (MCP 2026-07-28,
// stdio, backward compatibility).
func (s *server) handshake() error {
	era := s.bridge.era.Load()
	if era == eraUnknown {
		answer, err := s.request(discoverRequest, s.bridge.probeTimeout)
		switch {
		case errors.Is(err, errGone):
			return err
		case err == nil && (answer.errorCode == 0 || slices.Contains(modernErrors, answer.errorCode)):
			era = eraModern
		default:
			era = eraLegacy
		}
	}
	if era == eraLegacy {
		if err := s.initialize(); err != nil {
			s.bridge.era.Store(eraUnknown)
			return err
		}
	}
	s.bridge.era.Store(era)
	return nil
}

func (s *server) initialize() error {
	answer, err := s.request(initializeRequest, initializeTimeout)
	if err != nil {
		return err
	}
	if answer.errorCode != 0 {
		return fmt.Errorf("%w: JSON-RPC error %d", errHandshake, answer.errorCode)
	}
	s.legacy = negotiated(answer.message)
	ctx, cancel := context.WithTimeout(context.Background(), initializeTimeout)
	defer cancel()
	return s.child.send(ctx, []byte(initializedNotification))
}

// negotiated is the version in the answer to initialize.
func negotiated(message []byte) (version string) {
	version = "2025-11-25"
	_ = mcpwire.Object(message, func(name string, result jsontext.Value) error {
		if name != "result" || result.Kind() != '{' {
			return nil
		}
		return mcpwire.Object(result, func(name string, value jsontext.Value) error {
			if text, ok := mcpwire.String(value); ok && name == "protocolVersion" {
				version = text
			}
			return nil
		})
	})
	return version
}

// request asks the process something for the gateway itself.
func (s *server) request(message string, timeout time.Duration) (delivery, error) {
	m, err := mcpwire.ReadRelayed([]byte(message))
	if err != nil {
		return delivery{}, err
	}
	box := newMailbox(&s.budget)
	id, line, err := s.register(m, box, false)
	if err != nil {
		return delivery{}, err
	}
	defer s.forget(id)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := s.child.send(ctx, line); err != nil {
		return delivery{}, err
	}
	select {
	case <-box.signal:
	case <-s.child.done:
		return delivery{}, errGone
	case <-ctx.Done():
		return delivery{}, ctx.Err()
	}
	if queue, _ := box.take(); len(queue) > 0 && !queue[0].gone {
		return queue[0], nil
	}
	return delivery{}, errGone
}
