package celauthz

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

func TestNormalURI(t *testing.T) {
	tests := map[string]string{
		// already in normal form
		"":                             "",
		"file:///a":                    "file:///a",
		"file:///a/":                   "file:///a/",
		"https://x.example/a?b=../c#d": "https://x.example/a?b=../c#d",
		"postgres://db/table/schema":   "postgres://db/table/schema",
		"memo:insights":                "memo:insights",
		"urn:isbn:1":                   "urn:isbn:1",
		"file:///a/{path}":             "file:///a/{path}",
		"name":                         "name",
		"/a":                           "/a",
		"file:///a..b/...":             "file:///a..b/...",
		// dot segments
		"file:///a/../b":         "file:///b",
		"file:///a/./b":          "file:///a/b",
		"file:///a/b/..":         "file:///a/",
		"file:///a/.":            "file:///a/",
		"file:///../../a":        "file:///a",
		"file:///a/../../../b":   "file:///b",
		"file:///a/b/../../c/./": "file:///c/",
		"https://h/a/../b?c":     "https://h/b?c",
		"memo:a/../b":            "memo:b",
		"a/../b":                 "b",
		"../a":                   "../a",
		// doubled slashes
		"file:///a//b":        "file:///a/b",
		"file:////a":          "file:///a",
		"https://h//a///b//":  "https://h/a/b/",
		"file:///pub//../b":   "file:///b",
		"file:///a/b//../../": "file:///",
		// percent encoding, once and more often
		"file:///%61":                    "file:///a",
		"file:///a/%2e%2e/b":             "file:///b",
		"file:///a/%2E./b":               "file:///b",
		"file:///a/.%2e/b":               "file:///b",
		"file:///a%2f..%2Fb":             "file:///b",
		"file:///a/%252e%252e/b":         "file:///b",
		"file:///a/%25252e%25252e/b":     "file:///b",
		"file:///a/%25%32%65%25%32%65/b": "file:///b",
		"file:///a/%%32e%%32e/b":         "file:///b",
		"file:///a%c3%a9":                "file:///aé",
		"file:///%":                      "file:///%",
		"file:///%4":                     "file:///%4",
		"file:///%zz%4":                  "file:///%zz%4",
		"file:///100%25":                 "file:///100%",
		"file:///a%20b":                  "file:///a b",
		"file:///a%00b":                  "file:///a\x00b",
		"https://h/a%3f/../b":            "https://h/b",
		"https://h/a%3Fb%23c":            "https://h/a%3Fb%23c", // they do not begin a query now
		"https://h/a%253f":               "https://h/a%3F",
		"https://h/a?b%2e%2e":            "https://h/a?b%2e%2e", // the query names no path
		"file%3a///b":                    "file:///b",
		"file:%2f%2f%2fb":                "file:///b",
		"https://%68/a":                  "https://h/a",
		"file:///%" + strings.Repeat("25", 1000) + "2e/b": "file:///b",
		// backslashes
		`file:///a\..\b`:     "file:///b",
		`file:\\\b`:          "file:///b",
		"file:///a%5c..%5cb": "file:///b",
		`https:\\h\a`:        "https://h/a",
		`https://h\a`:        "https://h/a",
		// scheme and host, without case
		"FILE:///A":                 "file:///A",
		"HTTPS://H.Example/A":       "https://h.example/A",
		"Postgres://DB/Table":       "postgres://db/Table",
		"MEMO:A":                    "memo:A",
		"//H/A":                     "//h/A",
		"https://H.example?A":       "https://h.example?A",
		"https://H.example#A":       "https://h.example#A",
		"https://h:443/a":           "https://h/a",
		"https://h:443:443:/a":      "https://h/a",
		"https://h:/a":              "https://h/a",
		"https://h:80/a":            "https://h:80/a",
		"http://h:80/a":             "http://h/a",
		"postgres://h:443/a":        "postgres://h:443/a",
		"https://[2001:DB8::443]/a": "https://[2001:db8::443]/a",
		// URL parsers take all of these for one
		"file:/b":             "file:///b",
		"file:b":              "file:///b",
		"file://localhost/b":  "file:///b",
		"file://LocalHost/b":  "file:///b",
		"file://other/b":      "file://other/b",
		"https:/h/a":          "https://h/a",
		"https:h/a":           "https://h/a",
		"https:////h/a":       "https://h/a",
		"https::/h/a":         "https://h/a",
		"https://:/":          "https://",
		"postgres:/h/a":       "postgres:/h/a",
		" file:///b ":         "file:///b",
		"\x00\x1ffile:///b\n": "file:///b",
		"fi\tle:/\n//\rb":     "file:///b",
		"file:///a/.\t./b":    "file:///b",
		"file:///%2\n0x":      "file:/// x",
		"file:///b%20":        "file:///b%20", // an encoded blank stays where it is
		"%20file:///b":        "%20file:///b",
		"file:///a%0ab":       "file:///a%0Ab",
		// a path whose first segment has a colon is no scheme
		"./A:b":     "./A:b",
		"x/../A:b":  "./A:b",
		"./A/../:b": "./:b",
	}
	for uri, want := range tests {
		got := normalURI(uri)
		if got != want {
			t.Errorf("%.80q became %.80q, want %q", uri, got, want)
		}
		if again := normalURI(got); again != got {
			t.Errorf("%.80q became %q, and then %q", uri, got, again)
		}
	}
}

// A URI is judged as it was sent and in normal form; either denial denies.
func TestResourcesAreJudgedTwice(t *testing.T) {
	asked := func(uri string) string {
		return messageOf("resources/read", `{"uri":`+string(mcpwire.Quote(nil, uri))+`}`)
	}
	// an allow must hold for both, so there is no way out of a folder
	pub := newSite(t, `allow mcp.resource.uri.startsWith("file:///pub/")`)
	for _, uri := range []string{"file:///pub/", "file:///pub/a", "file:///pub/a/../b", "file:///pub/%61", "file:///pub/a%2fb", "file:///pub//a", `file:///pub/a\b`, "file:///pub/..a"} {
		pub.wantPassed(pub.post(asked(uri)), asked(uri))
	}
	escapes := []string{
		"file:///pub/../secret", "file:///pub/%2e%2e/secret", "file:///pub/%2E%2E%2Fsecret", "file:///pub/..%2fsecret", "file:///pub/%252e%252e/secret",
		"file:///pub/%25252e%25252e/secret", `file:///pub/..\secret`, "file:///pub/..%5csecret", "file:///pub/a/../../secret", "file:///pub//../secret",
		"file:///pub/.%2e/secret", "file:///pub/..", "file:///pub/../pub", "file:///pub/%3f/../../secret", "file:///pub/.\t./secret",
	}
	for _, uri := range append(escapes, "file:///Pub/a", "FILE:///pub/a", " file:///pub/a", "file:/pub/a", "file:///secret", "pub/a", "file:///pubs/a") {
		if w := pub.post(asked(uri)); w.Code != 200 || !strings.Contains(w.Body.String(), "-32002") || pub.passed != nil {
			t.Errorf("allow: %q: answer %d %s", uri, w.Code, w.Body)
		}
	}
	// a deny needs to hold for one of them, so there is no way around it
	secret := newSite(t, "allow true", `deny mcp.resource.uri.startsWith("file:///secret/")`, `deny mcp.resource.uri.startsWith("https://internal/")`)
	for _, uri := range append(escapes,
		"file:///secret/", "FILE:///secret/a", "file:///%73ecret/a", "file:///s%65cret%2fa", "file:///%2573ecret/a", "file://///secret/a", "file:/secret/a", "file:secret/a",
		"file://localhost/secret/a", `file:\\\secret\a`, "file%3a///secret/a", "file:%2f%2f/secret/a", " file:///secret/a", "fi\nle:///sec\tret/a", "file:///x/../secret/a",
		"https://INTERNAL/a", "https://internal:443/a", "https:internal/a", "https:///internal/a", `https:\\internal\a`, "https://%69nternal/a", "https://internal/", "https://internal//",
	) {
		if strings.HasSuffix(uri, "secret") {
			uri += "/a"
		} else if strings.HasPrefix(uri, "file:///pub/..") && !strings.Contains(uri, "secret") {
			continue // leads out of the folder, but elsewhere
		}
		if w := secret.post(asked(uri)); secret.passed != nil || w.Code != 200 {
			t.Errorf("deny: %q was passed on", uri)
		}
	}
	for _, uri := range []string{"file:///public/secret", "file:///secrets/a", "https://external/a", "https://internal.example/a", "memo:secret"} {
		secret.wantPassed(secret.post(asked(uri)), asked(uri))
	}
	// in a list as well
	p := policyOf(t, "allow true", `deny mcp.resource.uri.startsWith("file:///secret/")`)
	for uri, visible := range map[string]bool{"file:///a": true, "file:///secret/a": false, "file:///x/%2e%2e/secret/a": false, "FILE:/secret/{path}": false} {
		if d := p.visible(t.Context(), callerOf(t, alice), mcpwire.Resource, uri); d.allowed != visible {
			t.Errorf("%q in a list: %+v", uri, d)
		}
	}
}

// Names of tools, prompts and tasks are no URIs: nothing about them is
// decoded.
func TestOnlyResourcesHaveANormalForm(t *testing.T) {
	s := newSite(t, `allow mcp.tool.name.startsWith("a/") || mcp.prompt.name.startsWith("a/") || mcp.task.id.startsWith("a/")`)
	for _, name := range []string{"a/../b", "a/%2e%2e/b", "a//b"} {
		for _, message := range []string{callOf(name, "{}"), messageOf("prompts/get", `{"name":"`+name+`"}`), messageOf("tasks/get", `{"taskId":"`+name+`"}`)} {
			s.wantPassed(s.post(message), message)
		}
	}
}

// A long URI costs no more than its length.
func TestNormalURIOfLongText(t *testing.T) {
	for name, uri := range map[string]string{
		"percent signs":   "file:///" + strings.Repeat("%25", 1<<20) + "41",
		"nested decoding": "file:///" + strings.Repeat("%2", 1<<20) + strings.Repeat("5", 1<<20),
		"dot segments":    "file:///" + strings.Repeat("a/../", 1<<19),
		"slashes":         "https:" + strings.Repeat("/", 1<<20),
		"ports":           "https://h" + strings.Repeat(":443", 1<<18),
		"colons":          "https://h" + strings.Repeat(":", 1<<20),
	} {
		if got := normalURI(uri); len(got) > len(uri) || name == "ports" && got != "https://h" {
			t.Errorf("%s: %d bytes became %d", name, len(uri), len(got))
		}
	}
}

// Normal forms do not change any more, and hold no dot segments.
func FuzzNormalURI(f *testing.F) {
	for _, seed := range []string{
		"file:///a/../b", "file:///%2e%2e/%252e", `file:\\\a\..\b`, "HTTPS://H:443/a?b#c", "./A:b", "x/../A:b", " file:b\t", "file%3a///b", "https://h/a%3f%23",
		"//H//a", "file:///%20 ", "%09a:b", "https:%2f%2fh:%34%34%33", "a%3fb:c", "memo:.//y", "\xff%ff", "İ:K", "file://localhost%2f..",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		normal := normalURI(uri)
		if again := normalURI(normal); again != normal {
			t.Fatalf("%q became %q, and then %q", uri, normal, again)
		}
		// below a root, everything is resolved
		path, _, _ := strings.Cut(normalURI("file:///"+uri), "?")
		path, _, _ = strings.Cut(path, "#")
		path, rooted := strings.CutPrefix(path, "file:///")
		for _, segment := range strings.Split(path, "/") {
			if segment == "." || segment == ".." || strings.Contains(segment, `\`) {
				t.Fatalf("file:///%q became %q", uri, path)
			}
		}
		if !rooted || strings.Contains(path, "//") {
			t.Fatalf("file:///%q became %q", uri, path)
		}
		if utf8.ValidString(uri) && !strings.Contains(uri, "%") && !utf8.ValidString(normal) {
			t.Fatalf("%q became the invalid %q", uri, normal)
		}
	})
}
