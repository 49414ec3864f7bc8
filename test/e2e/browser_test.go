package e2e

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"testing"
)

// browser is a web browser and the person in front of it, who logs in and says yes to everything.
type browser struct {
	user   string
	client *http.Client
}

// maxPages bounds how many forms somebody fills in for one login.
const maxPages = 5

var (
	formAction = regexp.MustCompile(`<form [^>]*action="([^"]+)"`)
	formPrompt = regexp.MustCompile(`<input type="hidden" name="prompt" value="([^"]+)"`)
)

func newBrowser(t *testing.T, user string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{user: user, client: &http.Client{Jar: jar, Timeout: runLimit}}
}

// open goes to a page, fills in the forms that it leads to, and returns the URL of the page after the last one.
func (b *browser) open(ctx context.Context, page string) (*url.URL, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return nil, err
	}
	for range maxPages {
		text, at, err := b.visit(r)
		if err != nil {
			return nil, err
		}
		action := formAction.FindStringSubmatch(text)
		if action == nil {
			return at, nil
		}
		prompt := formPrompt.FindStringSubmatch(text)
		if prompt == nil {
			return nil, fmt.Errorf("what does %s want?\n%s", at, text)
		}
		form := url.Values{"prompt": {prompt[1]}, "login": {b.user}, "password": {"any"}}
		if r, err = formRequest(ctx, html.UnescapeString(action[1]), form); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the forms do not end")
}

func (b *browser) visit(r *http.Request) (text string, at *url.URL, err error) {
	resp, err := b.client.Do(r)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d\n%s", resp.Request.URL, resp.StatusCode, body)
	}
	return string(body), resp.Request.URL, err
}
