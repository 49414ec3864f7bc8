package celauthz

import (
	"fmt"
	"path"
	"strings"
)

// defaultPorts holds the schemes that URL parsers treat in a special way:
// what follows them is a host however many slashes there are.
var defaultPorts = map[string]string{
	"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "file": "",
}

// normalURI is the resource a server would reach with a URI: what the URL
// parsers of the official SDKs make of it (url.spec.whatwg.org), and then
// decoded as often as it can be, with its dot segments resolved. It takes any
// text, because servers do, and changes nothing when applied again.
func normalURI(uri string) string {
	uri = strings.TrimFunc(uri, func(r rune) bool { return r <= ' ' })
	uri = droppedInside.Replace(uri)
	var suffix string
	if end := strings.IndexAny(uri, "?#"); end >= 0 {
		uri, suffix = uri[:end], uri[end:]
	}
	rest := strings.ReplaceAll(percentDecode(uri), `\`, "/")
	var prefix string
	if scheme, after, ok := strings.Cut(rest, ":"); ok && !strings.Contains(scheme, "/") {
		prefix, rest = splitAuthority(strings.ToLower(scheme), after)
	} else if after, ok := strings.CutPrefix(rest, "//"); ok {
		host, after := cutHost(after)
		prefix, rest = "//"+host, after
	}
	rest = cleanPath(rest)
	if first, _, _ := strings.Cut(rest, "/"); prefix == "" && strings.Contains(first, ":") {
		rest = "./" + rest // or its colon would end a scheme
	}
	return encodeDelimiters(prefix+rest, suffix == "") + suffix
}

// splitAuthority takes what follows a scheme apart: the scheme and host, and
// the path.
func splitAuthority(scheme, after string) (prefix, rest string) {
	port, special := defaultPorts[scheme]
	authority, ok := strings.CutPrefix(after, "//")
	switch {
	case scheme == "file" && !ok:
		return "file://", "/" + after
	case special && scheme != "file":
		authority = strings.TrimLeft(after, "/:")
	case !ok:
		return scheme + ":", after
	}
	host, rest := cutHost(authority)
	switch {
	case scheme == "file":
		if host == "localhost" {
			host = ""
		}
	case special:
		for trimmed := ""; trimmed != host; {
			trimmed = host
			host = strings.TrimSuffix(strings.TrimSuffix(host, ":"), ":"+port)
		}
	}
	return scheme + "://" + host, rest
}

func cutHost(text string) (host, rest string) {
	end := strings.IndexByte(text, '/')
	if end < 0 {
		end = len(text)
	}
	return strings.ToLower(text[:end]), text[end:]
}

// cleanPath resolves dot segments and doubled slashes; a slash at the end
// stays.
func cleanPath(text string) string {
	if text == "" {
		return ""
	}
	cleaned := path.Clean(text)
	isFolder := strings.HasSuffix(text, "/") || strings.HasSuffix(text, "/.") || strings.HasSuffix(text, "/..")
	if isFolder && !strings.HasSuffix(cleaned, "/") {
		cleaned += "/"
	}
	return cleaned
}

var (
	// droppedInside is what URL parsers leave out wherever it stands.
	droppedInside = strings.NewReplacer("\t", "", "\n", "", "\r", "")
	delimiters    = strings.NewReplacer("?", "%3F", "#", "%23", "\t", "%09", "\n", "%0A", "\r", "%0D")
)

// encodeDelimiters encodes what was decoded and would mean something else
// now: the marks of query and fragment, and what is dropped from a URI.
func encodeDelimiters(text string, untilEnd bool) string {
	text = delimiters.Replace(text)
	if last := len(text) - 1; untilEnd && last >= 0 && text[last] <= ' ' {
		text = text[:last] + fmt.Sprintf("%%%02X", text[last])
	}
	if text != "" && text[0] <= ' ' {
		text = fmt.Sprintf("%%%02X", text[0]) + text[1:]
	}
	return text
}

// percentDecode decodes until there is nothing left to decode, because some
// servers decode more than once. Each byte is looked at once.
func percentDecode(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	decoded := make([]byte, 0, len(text))
	for i := range len(text) {
		decoded = append(decoded, text[i])
		for n := len(decoded); n >= 3 && decoded[n-3] == '%'; n = len(decoded) {
			high, ok1 := hexDigit(decoded[n-2])
			low, ok2 := hexDigit(decoded[n-1])
			if !ok1 || !ok2 {
				break
			}
			decoded = append(decoded[:n-3], high<<4|low)
		}
	}
	return string(decoded)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}
