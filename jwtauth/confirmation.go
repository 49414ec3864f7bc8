package jwtauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
)

// thumbprint is the SHA-256 of the certificate that a token is bound to; ""
// for a token that works for whoever has it.
type thumbprint string

// readConfirmation reads how a token is bound to its sender (cnf, RFC 7800).
// A token that is bound would work for whoever stole it if nobody asked for
// the proof. The proof that is understood is a certificate (RFC 8705 section
// 3.1); a token with another one, or with several, is refused.
func readConfirmation(t *token) (thumbprint, error) {
	cnf, bound := t.claims["cnf"]
	if !bound {
		return "", nil
	}
	methods, _ := cnf.(map[string]any)
	text, _ := methods["x5t#S256"].(string)
	sum, err := base64url.DecodeString(text)
	if err != nil || len(sum) != sha256.Size || len(methods) != 1 {
		return "", errTokenType
	}
	return thumbprint(sum), nil
}

// check wants the client to have shown that it has the certificate's key: in
// the handshake of its connection, whoever signed the certificate.
func (p thumbprint) check(connection *tls.ConnectionState) error {
	if p == "" {
		return nil
	}
	if connection == nil || len(connection.PeerCertificates) == 0 {
		return errTokenType
	}
	sum := sha256.Sum256(connection.PeerCertificates[0].Raw)
	if subtle.ConstantTimeCompare(sum[:], []byte(p)) != 1 {
		return errTokenType
	}
	return nil
}
