// Package differential compares how this project reads a message with how others read it. It has no code but its tests,
// and a folder of its own because a fuzz target starts its test binary many times: here that starts nothing else.
package differential
