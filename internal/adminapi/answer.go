package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/caddymcp/gateway/internal/app"
)

// issuers answers GET /mcp/issuers.
func issuers(mcp *app.App, _ *http.Request, _ []byte) (any, error) {
	list := []app.IssuerStatus{}
	for _, issuer := range mcp.Issuers() {
		list = append(list, issuer.Status())
	}
	return list, nil
}

// refresh answers POST /mcp/issuers/refresh: without a body for every issuer,
// with {"issuer": "..."} for that one.
func refresh(mcp *app.App, r *http.Request, body []byte) (any, error) {
	var wanted struct {
		Issuer *string `json:"issuer"`
	}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := strictly(body, &wanted); err != nil {
			return nil, failure(http.StatusBadRequest, err)
		}
	}
	var chosen []app.Issuer
	for _, issuer := range mcp.Issuers() {
		if wanted.Issuer == nil || issuer.Status().Issuer == *wanted.Issuer {
			chosen = append(chosen, issuer)
		}
	}
	if wanted.Issuer != nil && len(chosen) == 0 {
		return nil, failure(http.StatusNotFound, fmt.Errorf("there is no issuer %q", *wanted.Issuer))
	}
	results := make([]app.Refresh, len(chosen))
	var group sync.WaitGroup
	for i, issuer := range chosen {
		group.Go(func() { results[i] = issuer.Refresh(r.Context()) })
	}
	group.Wait()
	return results, nil
}

// shownPolicy is a policy with the number by which explain knows it.
type shownPolicy struct {
	ID     int `json:"id"`
	Policy any `json:"policy"`
}

// policies answers GET /mcp/policies.
func policies(mcp *app.App, _ *http.Request, _ []byte) (any, error) {
	list := []shownPolicy{}
	for i, policy := range mcp.Policies() {
		list = append(list, shownPolicy{i, policy.Status()})
	}
	return list, nil
}

var errNoOperation = errors.New(`write {"policy": <id>, "operation": {...}}; the id may be left out where there is one policy`)

// explain answers POST /mcp/explain.
func explain(mcp *app.App, r *http.Request, body []byte) (any, error) {
	var asked struct {
		Policy    *int            `json:"policy"`
		Operation json.RawMessage `json:"operation"`
	}
	if err := strictly(body, &asked); err != nil {
		return nil, failure(http.StatusBadRequest, err)
	}
	list := mcp.Policies()
	switch {
	case len(asked.Operation) == 0:
		return nil, failure(http.StatusBadRequest, errNoOperation)
	case asked.Policy == nil && len(list) == 1:
		asked.Policy = new(int)
	case asked.Policy == nil:
		return nil, failure(http.StatusBadRequest, fmt.Errorf("there are %d policies: %w", len(list), errNoOperation))
	}
	if id := *asked.Policy; id < 0 || id >= len(list) {
		return nil, failure(http.StatusNotFound, fmt.Errorf("there is no policy %d", id))
	}
	explanation, err := list[*asked.Policy].ExplainJSON(r.Context(), asked.Operation)
	if err != nil {
		return nil, failure(http.StatusBadRequest, err)
	}
	return explanation, nil
}

// strictly reads one JSON value that has no other members than those known.
func strictly(body []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("there is something behind the JSON value")
	}
	return nil
}
