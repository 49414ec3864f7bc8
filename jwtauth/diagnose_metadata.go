package jwtauth

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// metadata is a document of RFC 8414 or OpenID Connect Discovery.
type metadata map[string]jsontext.Value

func (m metadata) text(name string) string {
	text, _ := mcpwire.String(m[name])
	return text
}

// list is a list of texts; given is false when the member is missing or is
// something else.
func (m metadata) list(name string) (texts []string, given bool) {
	decoded, err := mcpwire.Decode(m[name])
	if err != nil {
		return nil, false
	}
	elements, given := decoded.([]any)
	for _, element := range elements {
		if text, ok := element.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts, given
}

func (m metadata) yes(name string) bool { return m[name].Kind() == 't' }

// examine tells what MCP clients will and will not manage with a server.
func (d *Diagnosis) examine(m metadata) {
	d.examineEndpoints(m)
	d.examineRegistration(m)
	if methods, _ := m.list("code_challenge_methods_supported"); slices.Contains(methods, "S256") {
		d.found(LevelOK, "PKCE", "S256 is announced")
	} else {
		d.found(LevelWarning, "PKCE", "S256 is not in code_challenge_methods_supported: clients must refuse to go on")
	}
	if methods, given := m.list("token_endpoint_auth_methods_supported"); !given || !slices.Contains(methods, "none") {
		d.found(LevelWarning, "clients", "`none` is not in token_endpoint_auth_methods_supported: clients without a secret, which most are, may not get tokens")
	}
	if m.yes("authorization_response_iss_parameter_supported") {
		d.found(LevelOK, "issuer in answers", "announced (RFC 9207)")
	} else {
		d.found(LevelNote, "issuer in answers", "authorization_response_iss_parameter_supported is not announced (RFC 9207)")
	}
	if resources, given := m.list("protected_resources"); given {
		d.found(LevelNote, "resources", "tokens are issued for %s (RFC 9728)", strings.Join(resources, ", "))
	} else {
		d.found(LevelNote, "resources", "no metadata announces resource indicators (RFC 8707): see whether aud of a token is the URL of the MCP server")
	}
	if scopes, given := m.list("scopes_supported"); given {
		d.found(LevelNote, "scopes", "%s", strings.Join(scopes, " "))
	}
	d.examineAlgorithms(m)
}

// examineEndpoints looks for what the authorization code grant needs.
func (d *Diagnosis) examineEndpoints(m metadata) {
	plain := strings.HasPrefix(d.Issuer, "http://")
	for _, name := range []string{"authorization_endpoint", "token_endpoint"} {
		switch address := m.text(name); {
		case address == "":
			d.found(LevelWarning, name, "is missing: clients cannot log in")
		case checkKeysURL(address, plain) != nil:
			d.found(LevelWarning, name, "%q is not an https URL: clients refuse it", address)
		}
	}
	// RFC 8414 section 2: without the member there are two
	if grants, given := m.list("grant_types_supported"); given && !slices.Contains(grants, "authorization_code") {
		d.found(LevelWarning, "grants", "authorization_code is not in grant_types_supported: people cannot log in")
	}
	if types, given := m.list("response_types_supported"); given && !slices.Contains(types, "code") {
		d.found(LevelWarning, "grants", "code is not in response_types_supported: people cannot log in")
	}
}

// examineRegistration looks for the ways in which a client that the server
// has never seen can use it.
func (d *Diagnosis) examineRegistration(m metadata) {
	documents, endpoint := m.yes("client_id_metadata_document_supported"), m.text("registration_endpoint")
	if documents {
		d.found(LevelOK, "registration", "client ID metadata documents are accepted")
	}
	if endpoint != "" {
		d.found(LevelOK, "registration", "dynamic, at %s (RFC 7591)", endpoint)
	}
	if !documents && endpoint == "" {
		d.found(LevelWarning, "registration", "neither client ID metadata documents nor dynamic registration (RFC 7591): "+
			"register each client beforehand and configure its client ID")
	}
}

// examineAlgorithms compares what the server signs with to what is accepted.
// Only ID tokens have their algorithms announced.
func (d *Diagnosis) examineAlgorithms(m metadata) {
	names, given := m.list("id_token_signing_alg_values_supported")
	if !given {
		return
	}
	accepted := slices.ContainsFunc(names, func(name string) bool {
		known, ok := algorithms[name]
		return ok && !known.symmetric
	})
	level := LevelNote
	if !accepted {
		level = LevelWarning
	}
	d.found(level, "algorithms", "ID tokens are signed with %s; access tokens most likely, too", strings.Join(names, ", "))
}
