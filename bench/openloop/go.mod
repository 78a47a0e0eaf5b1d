module tovuk/bench/openloop

go 1.22
