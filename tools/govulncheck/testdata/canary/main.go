// Command canary calls a function with a known vulnerability, GO-2021-0113. It is never built into anything:
// scripts/vuln.sh scans it first, to see that the scan finds what there is to find.
package main

import "golang.org/x/text/language"

func main() { _, _ = language.Parse("en") }
