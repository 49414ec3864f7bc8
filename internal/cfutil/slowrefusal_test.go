package cfutil

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/slowbody"
)

// patient notes until when the server may read.
type patient struct {
	*httptest.ResponseRecorder
	until []time.Time
}

func (p *patient) SetReadDeadline(until time.Time) error {
	p.until = append(p.until, until)
	return nil
}

// TestA112_RefuseSlowBody: whoever is refused cannot keep the connection by sending the body byte by byte. One whose
// time is over already gets no more.
func TestA112_RefuseSlowBody(t *testing.T) {
	for status, want := range map[int]int{http.StatusUnauthorized: 1, http.StatusNotFound: 1, http.StatusRequestTimeout: 0} {
		w := &patient{ResponseRecorder: httptest.NewRecorder()}
		began := time.Now()
		if err := Refuse(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{")), status, "no"); err != nil {
			t.Error(err)
		}
		if w.Code != status || len(w.until) != want {
			t.Fatalf("%d: %d, may read until %v", status, w.Code, w.until)
		}
		for _, until := range w.until {
			if until.Before(began.Add(slowbody.Timeout)) || until.After(time.Now().Add(slowbody.Timeout)) {
				t.Errorf("%d: may read until %v", status, until)
			}
		}
	}
}
