package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// streams are event streams that are open.
type streams struct {
	readers []*bufio.Reader
	close   func()
}

// openStreams opens n streams and reads the first line of each.
func (c *contestant) openStreams(ctx context.Context, n int) (*streams, error) {
	ctx, cancel := context.WithCancel(ctx)
	var bodies []io.Closer
	s := &streams{close: func() {
		cancel()
		for _, body := range bodies {
			body.Close()
		}
		c.client.CloseIdleConnections()
	}}
	for range n {
		answer, err := c.open(ctx, http.MethodGet, c.answer, "", c.tokens[0]) //nolint:bodyclose // s.close does it
		if err != nil {
			s.close()
			return nil, err
		}
		bodies = append(bodies, answer.Body)
		reader := bufio.NewReaderSize(answer.Body, 512)
		if _, err := reader.ReadString('\n'); err != nil {
			s.close()
			return nil, err
		}
		s.readers = append(s.readers, reader)
	}
	return s, nil
}

// idle measures what open streams take in memory. In time it measures
// nothing, so that one call stands for all of them.
func (c *contestant) idle(ctx context.Context, _ time.Duration) (s sample, _ time.Duration, err error) {
	liveBefore, residentBefore, err := c.memory(ctx)
	if err != nil {
		return s, 0, err
	}
	began := time.Now()
	open, err := c.openStreams(ctx, c.connections)
	if err != nil {
		return s, 0, err
	}
	defer open.close()
	s.requests, s.elapsed = c.connections, time.Since(began)
	liveAfter, residentAfter, err := c.memory(ctx)
	if err != nil {
		return s, 0, err
	}
	s.live = (liveAfter - liveBefore) / float64(c.connections)
	s.resident = (residentAfter - residentBefore) / float64(c.connections)
	return s, 0, nil
}

var memoryLines = map[string]*regexp.Regexp{
	"heap":   regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`),
	"stacks": regexp.MustCompile(`(?m)^# Stack = (\d+) / \d+$`),
}

// memory has the server collect its garbage, and returns the bytes that live
// on its heap and stacks, and those that are resident.
func (c *contestant) memory(ctx context.Context) (alive, rss float64, err error) {
	text, err := c.admin(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return 0, 0, err
	}
	if alive, err = parseMemory(string(text)); err != nil {
		return 0, 0, err
	}
	rss, err = residentMemory(c.pid)
	return alive, rss, err
}

// parseMemory sums up heap and stacks of a heap profile in text form.
func parseMemory(profile string) (sum float64, err error) {
	for name, line := range memoryLines {
		found := line.FindStringSubmatch(profile)
		if found == nil {
			return 0, fmt.Errorf("the heap profile says nothing about %s", name)
		}
		n, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// events measures how old the events of streams are when they arrive.
func (c *contestant) events(ctx context.Context, duration time.Duration) (s sample, _ time.Duration, err error) {
	open, err := c.openStreams(ctx, c.connections)
	if err != nil {
		return s, 0, err
	}
	began := time.Now()
	ages := make([][]time.Duration, len(open.readers))
	var wg sync.WaitGroup
	for i, reader := range open.readers {
		wg.Go(func() {
			for { // until the stream is closed
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				if sent, ok := eventTime(line); ok {
					ages[i] = append(ages[i], time.Since(sent))
				}
			}
		})
	}
	select {
	case <-time.After(duration):
	case <-ctx.Done():
		err = ctx.Err()
	}
	open.close()
	wg.Wait()
	s.elapsed = time.Since(began)
	var together []time.Duration
	for i, list := range ages {
		if len(list) == 0 && err == nil {
			err = fmt.Errorf("stream %d: %w", i, errNothing)
		}
		together = append(together, list...)
	}
	s.requests = len(together)
	s.p50, s.p99 = percentile(together, 50), percentile(together, 99)
	return s, 0, err
}
