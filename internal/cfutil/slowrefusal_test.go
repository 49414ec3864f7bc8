package cfutil

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/gateway/internal/mcptest"
	"github.com/caddymcp/gateway/internal/slowbody"
)

// TestA112_RefuseSlowBody: whoever is refused cannot keep the connection by sending the body byte by byte. One whose
// time is over already gets no more.
func TestA112_RefuseSlowBody(t *testing.T) {
	for status, want := range map[int]int{http.StatusUnauthorized: 1, http.StatusNotFound: 1, http.StatusRequestTimeout: 0} {
		w := &mcptest.Deadlines{ResponseRecorder: httptest.NewRecorder()}
		began := time.Now()
		if err := Refuse(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{")), status, "no"); err != nil {
			t.Error(err)
		}
		if w.Code != status || len(w.Until) != want {
			t.Fatalf("%d: %d, may read until %v", status, w.Code, w.Until)
		}
		for _, until := range w.Until {
			if until.Before(began.Add(slowbody.Timeout)) || until.After(time.Now().Add(slowbody.Timeout)) {
				t.Errorf("%d: may read until %v", status, until)
			}
		}
	}
}
