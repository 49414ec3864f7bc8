-- What wrk sends, and how it reports. Arguments: a file with the body, one with headers, one with tokens, which are
-- used in turn.

local requests, last = {}, 0

function init(args)
  local body = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", body:read("*a")
  body:close()
  for line in io.lines(args[2]) do
    local name, value = line:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
  for token in io.lines(args[3]) do
    wrk.headers["Authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format()
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT requests=%d duration_us=%d p50_us=%d p99_us=%d connect=%d read=%d write=%d status=%d timeout=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
