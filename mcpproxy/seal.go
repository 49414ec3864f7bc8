package mcpproxy

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/maypok86/otter/v2"
	"golang.org/x/crypto/chacha20poly1305"
)

// Bounds of session ids. What may be sealed always fits into what is opened.
const (
	// maxSealedID is how long an id that a client sends may be.
	maxSealedID = 4 << 10
	// maxUpstreamID is how long an id of a server may be.
	maxUpstreamID = 2 << 10
	// maxReplica is how long the address of a replica may be.
	maxReplica = 512
	// maxOpenedSize is how many bytes of ids that have been opened, and of
	// what was in them, a proxy remembers.
	maxOpenedSize = 4 << 20
	// openedOverhead is what remembering one takes beside its texts, in bytes.
	openedOverhead = 256
)

// sealVersion begins what a sealed id decodes to. It changes with what stands
// behind it, so that an id of another version opens as none of this one.
const sealVersion = 1

var (
	// errNotSealed: the id was not made with this key, for this proxy and
	// this principal. Which of them it is, nobody is told.
	errNotSealed = errors.New("session not found")
	// errUnsealable: the server's id is none (MCP 2025-11-25, transports).
	errUnsealable = errors.New("the server's session id is not visible ASCII, or too long")
)

// upstreamSession is what a sealed id holds.
type upstreamSession struct {
	// id is the server's.
	id string
	// replica is the address of the server that gave it; "" where there is
	// but one.
	replica string
}

// sealer makes session ids out of those of the servers, and opens them again.
// A sealed id is
//
//	base64url(version, nonce, XChaCha20-Poly1305(upstream id, replica))
//
// with the proxy and the principal authenticated beside them, each with its
// length before it. So it tells a client neither the server's id nor its
// address, nobody else can use it, and nothing about it has to be stored.
//
// The nonce is a MAC of all that goes in: what is sealed twice looks the same
// twice, on every instance, and a nonce is never used for something else.
type sealer struct {
	aead     cipher.AEAD
	nonceKey []byte
	proxy    string
	// opened are ids that came before. What is in one never changes, and
	// those that could not be opened leave no trace.
	opened *otter.Cache[sealedID, upstreamSession]
}

// sealedID is an id and who sent it.
type sealedID struct{ id, principal string }

// newSealer makes the sealer of one proxy out of two keys.
func newSealer(sealKey, nonceKey []byte, proxy string) (*sealer, error) {
	aead, err := chacha20poly1305.NewX(sealKey)
	if err != nil {
		return nil, err
	}
	opened, err := otter.New(&otter.Options[sealedID, upstreamSession]{
		MaximumWeight: maxOpenedSize,
		Weigher: func(sealed sealedID, inside upstreamSession) uint32 {
			size := openedOverhead + len(sealed.id) + len(sealed.principal) + len(inside.id) + len(inside.replica)
			return uint32(min(size, maxOpenedSize))
		},
	})
	return &sealer{aead: aead, nonceKey: nonceKey, proxy: proxy, opened: opened}, err
}

// seal makes the id that a principal gets for a session.
func (s *sealer) seal(session upstreamSession, principal string) (string, error) {
	if !isVisible(session.id) || len(session.id) > maxUpstreamID || len(session.replica) > maxReplica {
		return "", errUnsealable
	}
	beside := s.beside(principal)
	inside := appendField(appendField(nil, session.id), session.replica)

	mac := hmac.New(sha256.New, s.nonceKey)
	mac.Write(appendField(nil, string(beside)))
	mac.Write(inside)
	nonce := mac.Sum(nil)[:chacha20poly1305.NonceSizeX]

	sealed := make([]byte, 0, 1+len(nonce)+len(inside)+s.aead.Overhead())
	sealed = append(append(sealed, sealVersion), nonce...)
	sealed = s.aead.Seal(sealed, nonce, inside, beside)
	return sealedEncoding.EncodeToString(sealed), nil
}

// open returns the session that an id stands for, if it was sealed for this
// principal.
func (s *sealer) open(sealed, principal string) (upstreamSession, error) {
	known := sealedID{sealed, principal}
	if session, ok := s.opened.GetIfPresent(known); ok {
		return session, nil
	}
	session, err := s.unseal(sealed, principal)
	if err == nil {
		s.opened.Set(known, session)
	}
	return session, err
}

func (s *sealer) unseal(sealed, principal string) (upstreamSession, error) {
	raw, err := sealedEncoding.DecodeString(sealed)
	// the decoder reads over line ends
	if err != nil || !isVisible(sealed) || len(raw) < 1+chacha20poly1305.NonceSizeX || raw[0] != sealVersion {
		return upstreamSession{}, errNotSealed
	}
	nonce, ciphertext := raw[1:1+chacha20poly1305.NonceSizeX], raw[1+chacha20poly1305.NonceSizeX:]
	inside, err := s.aead.Open(nil, nonce, ciphertext, s.beside(principal))
	if err != nil {
		return upstreamSession{}, errNotSealed
	}
	id, rest, ok := cutField(inside)
	replica, rest, more := cutField(rest)
	if !ok || !more || len(rest) != 0 {
		return upstreamSession{}, errNotSealed
	}
	return upstreamSession{id, replica}, nil
}

// beside is what a session is bound to.
func (s *sealer) beside(principal string) []byte {
	return appendField(appendField([]byte{sealVersion}, s.proxy), principal)
}

// sealedEncoding is strict: one sealed id has one text.
var sealedEncoding = base64.RawURLEncoding.Strict()

// appendField appends a text with its length before it.
func appendField(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// cutField takes a text off the front.
func cutField(from []byte) (text string, rest []byte, ok bool) {
	length, n := binary.Uvarint(from)
	if n <= 0 || length > uint64(len(from)-n) { //nolint:gosec // n is at most len(from)
		return "", nil, false
	}
	from = from[n:]
	return string(from[:length]), from[length:], true
}

// isVisible reports whether a text is what a session id must be: visible
// ASCII characters, at least one.
func isVisible(id string) bool {
	for i := range len(id) {
		if id[i] < '!' || id[i] > '~' {
			return false
		}
	}
	return id != ""
}
