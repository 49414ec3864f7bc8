package stdio

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/gateway/internal/mcpwire"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// Bounds of a request that nobody has read before.
const (
	maxBody = 4 << 20
	// maxJudgedBody bounds one that has been judged: its own bound holds.
	maxJudgedBody = 256 << 20
)

// post is a POST that may be passed on.
type post struct {
	messages []*mcpwire.Relayed
	batch    bool
	modern   bool
	// id is for an answer about all of it: nil for a batch.
	id jsontext.Value
}

// first is the message, or the first of a batch.
func (p *post) first() *mcpwire.Relayed { return p.messages[0] }

// requests counts those that want an answer.
func (p *post) requests() (n int) {
	for _, m := range p.messages {
		if m.Shape == mcpwire.Request {
			n++
		}
	}
	return n
}

// listens reports whether there is a subscription, which no batch has.
func (p *post) listens() bool { return p.first().Method == listenMethod }

// readPost reads the messages of a POST. Unless a handler in front has judged
// the message, it is checked here, by the same rules.
func readPost(r *http.Request, judged *mcpwire.Message) (*post, *refusal) {
	limit := int64(maxJudgedBody)
	if judged == nil {
		limit = maxBody
		if refused := checkContent(r); refused != nil {
			return nil, refused
		}
	}
	body, refused := readBody(r, limit)
	if refused != nil {
		return nil, refused
	}
	all := []*mcpwire.Message{judged}
	p := new(post)
	if judged == nil {
		var err error
		if all, p.batch, err = mcpwire.ReadAll(body); err != nil {
			return nil, formatRefusal(err)
		}
		if version := r.Header.Get(mcpwire.HeaderVersion); p.batch && version != "" && version != mcpwire.Version20250326 {
			return nil, invalid(nil, "batches are not accepted in version "+version)
		}
		for _, m := range all {
			if broken := mcpwire.CheckHeaders(r.Header, m); broken != nil {
				return nil, &refusal{status: broken.Status, id: m.ID, code: broken.Code, message: broken.Message, data: broken.Data}
			}
		}
	}
	p.modern = mcpwire.IsModern(r.Header.Get(mcpwire.HeaderVersion)) || mcpwire.IsModern(all[0].Meta.Version)
	if !p.batch {
		p.id = all[0].ID
	}
	return p, p.split(body)
}

// split finds what has to change in the messages for others beside them.
func (p *post) split(body []byte) *refusal {
	docs := []jsontext.Value{body}
	if p.batch {
		var err error
		if docs, err = mcpwire.Messages(body); err != nil {
			return formatRefusal(err)
		}
	}
	for _, doc := range docs {
		m, err := mcpwire.ReadRelayed(doc)
		if err != nil {
			return invalid(p.id, err.Error())
		}
		p.messages = append(p.messages, m)
	}
	return nil
}

// checkContent accepts JSON in UTF-8 and nothing else.
func checkContent(r *http.Request) *refusal {
	contentType := r.Header.Get("Content-Type")
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	charset := strings.ToLower(parameters["charset"])
	switch {
	case len(r.Header["Content-Type"]) != 1, err != nil, mediaType != "application/json",
		charset != "" && charset != "utf-8", strings.Contains(contentType, "*"), r.Header.Get("Content-Encoding") != "":
		return &refusal{
			status: http.StatusUnsupportedMediaType, code: mcpwire.CodeInvalidRequest,
			message: "the body must be application/json, not encoded",
		}
	}
	return nil
}

// readBody reads a body within its bound. Whoever passes the request on bounds
// how long that takes.
func readBody(r *http.Request, limit int64) ([]byte, *refusal) {
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	var tooLarge *http.MaxBytesError
	switch {
	case int64(len(body)) > limit || errors.As(err, &tooLarge):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, code: mcpwire.CodeInvalidRequest, message: "request body too large"}
	case errors.Is(err, slowbody.Err):
		return nil, &refusal{status: http.StatusRequestTimeout, code: mcpwire.CodeInvalidRequest, message: slowbody.Err.Error()}
	case err != nil:
		return nil, invalid(nil, "the request body could not be read")
	}
	return body, nil
}
