package cfutil

import (
	"net/http"
	"net/textproto"
	"strings"
)

// IdentityHeaders are the headers by which proxies commonly tell an
// application who its user is. Nobody but this gateway may set them.
var IdentityHeaders = []string{
	"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups",
	"X-Remote-User", "X-Remote-Email", "X-Remote-Groups", "X-Webauth-User",
	"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
	"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
	"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups",
	"X-Auth-Request-Preferred-Username", "X-Auth-Request-Access-Token",
}

var identityHeaders = func() map[string]bool {
	names := make(map[string]bool, len(IdentityHeaders))
	for _, name := range IdentityHeaders {
		names[name] = true
	}
	return names
}()

// connectionOptions are the only ones a client needs. Any other option names
// a header for removal (RFC 9110 section 7.6.1), and it could name one that
// the configuration sets behind this handler.
var connectionOptions = map[string]bool{"close": true, "keep-alive": true, "upgrade": true, "te": true}

// DropForgedHeaders removes what a client could use to speak for the
// gateway: identity headers, names with an underscore, which many servers
// take for a dash, and Connection options that would remove a header.
func DropForgedHeaders(header http.Header) {
	for name := range header {
		if identityHeaders[name] || strings.IndexByte(name, '_') >= 0 {
			delete(header, name)
		}
	}
	values, ok := header["Connection"]
	if !ok {
		return
	}
	var kept []string
	for _, value := range values {
		for option := range strings.SplitSeq(value, ",") {
			if option = textproto.TrimString(option); connectionOptions[strings.ToLower(option)] {
				kept = append(kept, option)
			}
		}
	}
	if len(kept) == 0 {
		delete(header, "Connection")
		return
	}
	header["Connection"] = []string{strings.Join(kept, ", ")}
}
