package mcptest

import (
	"net/http/httptest"
	"time"
)

// Deadlines is a recorder that notes until when the server may read.
type Deadlines struct {
	*httptest.ResponseRecorder
	Until []time.Time
}

// SetReadDeadline implements what http.ResponseController looks for.
func (d *Deadlines) SetReadDeadline(until time.Time) error {
	d.Until = append(d.Until, until)
	return nil
}
