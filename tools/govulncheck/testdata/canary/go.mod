module example.test/canary

go 1.26.0

// Known to be vulnerable, on purpose: see main.go. Never upgrade it.
require golang.org/x/text v0.3.5
