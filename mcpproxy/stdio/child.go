package stdio

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Bounds of one process.
const (
	// maxLine bounds one message of a server; with a longer one it is ended.
	maxLine = 16 << 20
	// How long a server gets to end once its input is closed, and then once
	// it has been asked by a signal.
	closeWait = 2 * time.Second
	termWait  = 3 * time.Second
	// drainWait is how long its output may stay open behind its end:
	// somebody who left its process group may hold it.
	drainWait = time.Second
)

var (
	errGone    = errors.New("the server has ended")
	errTooLong = fmt.Errorf("a line of more than %d bytes", maxLine)
)

// child is a server that runs. It is spoken to line by line.
type child struct {
	cmd   *exec.Cmd
	log   *zap.Logger
	input chan []byte
	stdin *os.File
	// done is closed when the process has ended and has been collected, and
	// its output has been read.
	done chan struct{}

	ending  sync.Once
	stopped chan struct{} // closed: it is about to end
	telling sync.Once
	told    chan struct{} // closed: it ends because it was told to
	mu      sync.Mutex
	gone    bool // its number may belong to somebody else
	status  string
	stderr  *stderrLog
}

// startChild starts a server. onLine gets each line that is not empty; the
// line is valid until it returns, and an error ends the process.
func startChild(cfg *Config, log *zap.Logger, onLine func([]byte) error) (*child, error) {
	cmd := exec.Command(cfg.Command, cfg.Args...) //nolint:gosec,noctx // of the configuration; it outlives requests
	cmd.Dir = cfg.Dir
	// never nil, which would mean all of ours
	cmd.Env = append([]string{}, cfg.Env...)
	isolate(cmd)
	var ours, theirs []*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, err
		}
		if len(ours) == 0 {
			ours, theirs = append(ours, w), append(theirs, r)
		} else {
			ours, theirs = append(ours, r), append(theirs, w)
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	err := cmd.Start()
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return nil, err
	}
	log = log.With(zap.Int("pid", cmd.Process.Pid))
	c := &child{
		cmd: cmd, log: log, stdin: ours[0],
		input: make(chan []byte), done: make(chan struct{}), stopped: make(chan struct{}), told: make(chan struct{}),
		stderr: &stderrLog{log: log},
	}
	var readers sync.WaitGroup
	readers.Go(func() { c.readLines(ours[1], onLine) })
	readers.Go(func() { c.stderr.copy(ours[2]) })
	go c.writeLines()
	go c.collect(&readers, ours)
	return c, nil
}

// send hands a line to the server. It waits until the server takes it.
func (c *child) send(ctx context.Context, line []byte) error {
	select {
	case c.input <- line:
		return nil
	case <-c.stopped:
		return errGone
	case <-c.done:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *child) writeLines() {
	for {
		select {
		case line := <-c.input:
			if _, err := c.stdin.Write(append(bytes.Clone(line), '\n')); err != nil {
				c.wind() // it does not listen any more
				return
			}
		case <-c.stopped:
			return
		case <-c.done:
			return
		}
	}
}

// readLines reads messages until the output ends, which a server may do to
// say that it wants to end.
func (c *child) readLines(stdout io.Reader, onLine func([]byte) error) {
	defer c.wind()
	reader := bufio.NewReaderSize(stdout, 64<<10)
	var long []byte
	for {
		line, err := reader.ReadSlice('\n')
		switch {
		case len(long)+len(line) > maxLine:
			err = errTooLong
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, line...)
			continue
		case err == nil:
			if len(long) > 0 {
				line = append(long, line...)
				long = nil
			}
			if line = bytes.TrimSpace(line); len(line) > 0 {
				err = onLine(line)
			}
		default:
			return // what has no line end is no message
		}
		if err != nil {
			c.log.Error("the server is ended: it does not speak the protocol", zap.Error(err))
			c.killNow()
			// it must not block in a write
			_, _ = io.Copy(io.Discard, reader)
			return
		}
	}
}

// collect waits for the end of the process, and leaves nothing of it behind.
func (c *child) collect(readers *sync.WaitGroup, files []*os.File) {
	awaitExit(c.cmd)
	c.mu.Lock()
	kill(c.cmd)
	c.gone = true
	c.mu.Unlock()
	// how it ended is in its state; that it may fail to is no news
	_ = c.cmd.Wait()
	c.status = "unknown"
	if c.cmd.ProcessState != nil {
		c.status = c.cmd.ProcessState.String()
	}
	read := make(chan struct{})
	go func() {
		readers.Wait()
		close(read)
	}()
	select {
	case <-read:
	case <-time.After(drainWait):
	}
	for _, f := range files {
		_ = f.Close()
	}
	<-read
	close(c.done)
}

// end begins to end the server, and does not wait.
func (c *child) end() {
	c.telling.Do(func() { close(c.told) })
	c.wind()
}

// wind ends a server that was told to, or that wants to: its input is closed,
// it is asked to end, it is killed.
func (c *child) wind() {
	c.ending.Do(func() {
		close(c.stopped)
		go func() {
			_ = c.stdin.Close()
			if c.waitDone(closeWait) {
				return
			}
			c.signal(terminate)
			if !c.waitDone(termWait) {
				c.signal(kill)
			}
		}()
	})
}

func (c *child) killNow() {
	c.wind()
	c.signal(kill)
}

func (c *child) signal(how func(*exec.Cmd)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		how(c.cmd)
	}
}

func (c *child) waitDone(limit time.Duration) bool {
	select {
	case <-c.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// isEnding reports whether it takes no messages any more.
func (c *child) isEnding() bool { return isClosed(c.stopped) || c.hasEnded() }

// hasEnded reports whether nothing is left of it.
func (c *child) hasEnded() bool { return isClosed(c.done) }

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
