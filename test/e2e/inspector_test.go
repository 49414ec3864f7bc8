package e2e

import "testing"

// inspect runs MCP Inspector's command line as the documentation of this project shows it. An empty credential is none.
func inspect(t *testing.T, url, credential string, args ...string) result {
	t.Helper()
	command := []string{
		nodeModules(t, ".bin/mcp-inspector"), "--cli", url, "--transport", "http",
		"--header", "mcp-protocol-version: 2024-11-05",
	}
	command = append(command, args...)
	if credential != "" {
		command = append(command, "--header", "Authorization: Bearer "+credential)
	}
	return run(t, nodeCommand(t, command...))
}

// callTool calls a tool with Inspector. Arguments are like a=1.
func callTool(t *testing.T, url, credential, tool string, arguments ...string) result {
	t.Helper()
	args := []string{"--method", "tools/call", "--tool-name", tool}
	for _, argument := range arguments {
		args = append(args, "--tool-arg", argument)
	}
	return inspect(t, url, credential, args...)
}
