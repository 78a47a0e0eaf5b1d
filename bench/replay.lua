-- wrk replays the requests of a file in turn: records of "<length>\n<bytes>", written by load.py.
local requests, count, at = {}, 0, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for length in function() return file:read("*l") end do
    count = count + 1
    requests[count] = file:read(tonumber(length))
  end
  file:close()
  -- wrk asks once for a request that it only looks at: let that be the last one, so that sending begins at the first.
  at = count - 1
end

function request()
  at = at % count + 1
  return requests[at]
end

-- No response() here: it would make wrk build a table of every answer. wrk counts statuses above 399 by itself.
function done(summary, latency)
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "bad_statuses": %d, "broken": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
