package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// replicated is a service as it is run where one machine must not be enough: a load balancer that knows nothing of
// sessions, gateways that have a storage in common, and replicas of a server that keeps its sessions in memory.
type replicated struct {
	url      string
	gateways []*gateway
	replicas []*process
}

func startReplicated(t *testing.T, gateways, replicas int) *replicated {
	t.Helper()
	s := new(replicated)
	var upstreams []string
	for range replicas {
		p, url := startEverything(t)
		s.replicas, upstreams = append(s.replicas, p), append(upstreams, url)
	}
	storage := t.TempDir()
	// so that new sessions begin everywhere
	each := strings.Replace(site("allow true", strings.Join(upstreams, " ")), "header_up", "lb_policy round_robin\n\t\theader_up", 1)
	var addresses []string
	for range gateways {
		g := startGatewayWith(t, storage, each)
		s.gateways, addresses = append(s.gateways, g), append(addresses, loopback(g.port))
	}
	s.url = startFront(t, addresses...)
	return s
}

// startFront starts a Caddy that gives each request to the next gateway, and to another one if that is gone.
func startFront(t *testing.T, gateways ...string) (url string) {
	t.Helper()
	port, admin := freePort(t), freePort(t)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := fmt.Sprintf(`{
	admin %s
	persist_config off
}

http://:%d {
	bind 127.0.0.1
	reverse_proxy %s {
		lb_policy round_robin
		lb_retries %d
		flush_interval -1
		transport http {
			keepalive off
		}
	}
}
`, loopback(admin), port, strings.Join(gateways, " "), len(gateways))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startServing(t, caddyCommand(t, "run", "--config", file))
	p.waitForPort(t, port)
	return "http://" + loopback(port) + "/mcp"
}

// served is how many requests a gateway has passed on.
func (g *gateway) served() int { return strings.Count(g.out.String(), `"upstream roundtrip"`) }

// kill ends a gateway as a crash would.
func (g *gateway) kill(t *testing.T) {
	t.Helper()
	g.signal(t, syscall.SIGKILL)
	<-g.done
}

// posts is how many messages each replica has got.
func (s *replicated) posts() (list []int) {
	for _, p := range s.replicas {
		list = append(list, strings.Count(p.out.String(), "Received MCP POST request"))
	}
	return list
}

// TestReplicatedSession: one session by way of three gateways, of which two die, one after the other.
func TestReplicatedSession(t *testing.T) {
	s := startReplicated(t, 3, 2)
	cmd := nodeCommand(t, "sessions.mjs", s.url)
	cmd.Env = append(cmd.Env, "TOKEN="+token(t, "alice"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	client := start(t, cmd)
	for round := range 3 {
		word := fmt.Sprintf("round-%d", round)
		before := make([]int, len(s.gateways))
		for i, g := range s.gateways {
			before[i] = g.served()
		}
		if _, err := io.WriteString(stdin, word+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := client.out.wait(regexp.MustCompile(`(?m)^(\{"echo":"Echo: `+word+`".*\})$`), client.done, runLimit)
		if err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		checkRound(t, word, line[1])
		for i, g := range s.gateways {
			if i >= round && g.served() == before[i] {
				t.Errorf("%s: gateway %d has passed on nothing", word, i)
			}
		}
		if round < 2 {
			s.gateways[round].kill(t)
		}
	}
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if status := client.wait(t, runLimit); status != 0 {
		t.Errorf("the client ended with status %d", status)
	}
	posts := s.posts()
	if slices.Sort(posts); posts[0] != 0 || posts[1] < 3*5 {
		t.Errorf("the replicas got %d messages of one session, want them all at one", posts)
	}
	// the end of the session, by the name that the server knows it by
	ended := 0
	for _, p := range s.replicas {
		for _, match := range regexp.MustCompile(`Session initialized with ID: (\S+)`).FindAllStringSubmatch(p.out.String(), -1) {
			ended += strings.Count(p.out.String(), "Received session termination request for session "+match[1])
		}
	}
	if ended != 1 {
		t.Errorf("the replicas were told of the end of %d sessions, want 1", ended)
	}
}

// checkRound checks what the client printed about one use of its session.
func checkRound(t *testing.T, word, line string) {
	t.Helper()
	var got struct {
		Long, Elicitation, Sampling string
		SameSession                 bool
		Progress                    []int
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"the long operation":    strings.Contains(got.Long, "completed"),
		"its progress":          slices.Equal(got.Progress, []int{1, 2, 3}),
		"an elicitation":        strings.Contains(got.Elicitation, "Name: Zoë"),
		"a sampling":            strings.Contains(got.Sampling, "an answer to: ") && strings.Contains(got.Sampling, word),
		"the id of the session": got.SameSession,
	} {
		if !ok {
			t.Errorf("%s: %s is wrong: %s", word, what, line)
		}
	}
}

// TestReplicatedSessions: many sessions spread over the replicas, each stays on its own and with its owner, and those
// on a replica that dies are over, while the others go on.
func TestReplicatedSessions(t *testing.T) {
	const sessions, callsEach = 12, 4
	s := startReplicated(t, 3, 2)
	const echo = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hi"}}}`
	var clients [2][]*rawClient // by replica
	for range sessions {
		before := s.posts()
		c := &rawClient{url: s.url, token: token(t, "alice")}
		c.open(t)
		for range callsEach {
			if got := c.post(t, echo); got.status != http.StatusOK || !strings.Contains(got.body, "Echo: hi") {
				t.Errorf("echo: %+v", got)
			}
		}
		after := s.posts()
		grown := []int{after[0] - before[0], after[1] - before[1]}
		if !slices.Contains(grown, 0) || !slices.Contains(grown, callsEach+2) {
			t.Fatalf("the replicas got %d messages of one session", grown)
		}
		replica := slices.Index(grown, callsEach+2)
		clients[replica] = append(clients[replica], c)

		// A140
		thief := &rawClient{url: s.url, token: token(t, "bob"), session: c.session}
		if got := thief.post(t, echo); got.status != http.StatusNotFound || got.body != "session not found" {
			t.Errorf("somebody else's session: %+v", got)
		}
		if got := s.posts(); !slices.Equal(got, after) {
			t.Error("a replica heard of it")
		}
	}
	if len(clients[0]) == 0 || len(clients[1]) == 0 {
		t.Fatalf("of %d sessions, %d began at one replica", sessions, len(clients[0]))
	}
	s.replicas[0].stop(t)
	for _, c := range clients[0] {
		// as long as a gateway takes a connection of before for alive, the answer is 502: the message may have arrived
		var got answer
		if !poll(stopLimit, func() bool { got = c.post(t, echo); return got.status != http.StatusBadGateway }) ||
			got.status != http.StatusNotFound || got.body != "session not found" {
			t.Errorf("a session of the replica that died: %+v", got)
		}
	}
	for _, c := range clients[1] {
		if got := c.post(t, echo); got.status != http.StatusOK {
			t.Errorf("a session of the other replica: %+v", got)
		}
	}
}
