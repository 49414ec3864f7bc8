package stdio

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"
)

// Bounds of what a server can make the log grow by.
const (
	// maxLogged bounds a line of stderr, or one of stdout that is no message.
	maxLogged = 4 << 10
	// maxLogRate bounds the lines of one process in a second.
	maxLogRate = 50
)

// stderrLog writes what a server says on its stderr to the log, and what is
// no message on its stdout.
type stderrLog struct {
	log *zap.Logger

	mu     sync.Mutex
	second time.Time
	lines  int
}

// copy logs line by line until the end.
func (l *stderrLog) copy(stderr io.Reader) {
	reader := bufio.NewReaderSize(stderr, maxLogged)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			l.write("stderr", line)
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			_, err = reader.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

func (l *stderrLog) write(stream string, line []byte) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.second) >= time.Second {
		if dropped := l.lines - maxLogRate; dropped > 0 {
			l.log.Warn("the server writes too much; some lines are left out", zap.Int("lines", dropped))
		}
		l.second, l.lines = now, 0
	}
	if l.lines++; l.lines > maxLogRate {
		return
	}
	l.log.Warn("the server wrote", zap.String("stream", stream), zap.String("line", printable(line)))
}

// printable escapes what a terminal, or a reader of the log, would act upon.
func printable(line []byte) string {
	line = line[:min(len(line), maxLogged)]
	var out strings.Builder
	for _, r := range strings.TrimRight(strings.ToValidUTF8(string(line), "\ufffd"), "\r\n") {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}
