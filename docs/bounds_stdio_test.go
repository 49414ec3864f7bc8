package docs_test

import "maps"

// The rows about processes; see bounds.
func init() {
	maps.Copy(bounds, map[string][]string{
		"body for `stdio` that `mcp_authorize` has not judged": {"mcpproxy/stdio.maxBody", "internal/slowbody.Timeout"},
		"body for `stdio` that it has":                         {"mcpproxy/stdio.maxJudgedBody"},
		"processes of `stdio`":                                 {"mcpproxy/stdio.DefaultMaxProcesses", "mcpproxy/stdio.MaxMaxProcesses"},
		"processes of one principal":                           {"mcpproxy/stdio.maxPerPrincipal", "mcpproxy/stdio.abandonedTimeout"},
		"idle process":                                         {"mcpproxy/stdio.DefaultIdleTimeout", "mcpproxy/stdio.MaxIdleTimeout"},
		"requests that one process answers at a time":          {"mcpproxy/stdio.maxPending"},
		"line of a process":                                    {"mcpproxy/stdio.maxLine"},
		"messages that wait for one client of `stdio`":         {"mcpproxy/stdio.maxQueued", "mcpproxy/stdio.maxQueuedSize"},
		"pause behind a process that ended within 30 s":        {"mcpproxy/stdio.firstPause", "mcpproxy/stdio.maxPause"},
		"end of a process":                                     {"mcpproxy/stdio.closeWait", "mcpproxy/stdio.termWait", "mcpproxy/stdio.drainWait"},
		"`server/discover` and `initialize` of the gateway":    {"mcpproxy/stdio.probeTimeout", "mcpproxy/stdio.initializeTimeout"},
		"cancellation for a process that does not read":        {"mcpproxy/stdio.cancelTimeout"},
		"line of stderr in the log":                            {"mcpproxy/stdio.maxLogged", "mcpproxy/stdio.maxLogRate"},
	})
}
