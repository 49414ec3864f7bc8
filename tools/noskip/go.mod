module github.com/caddymcp/gateway/tools/noskip

go 1.26.0
