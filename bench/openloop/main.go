// Command openloop sends requests at moments drawn beforehand, whatever the answers do, and measures each from its
// moment: a server that stalls is charged for every request that waited meanwhile (no coordinated omission).
//
// One thread, epoll and a timerfd: on a machine shared with the server the driver must be cheap.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const (
	clockMonotonic  = 1
	readChunk       = 64 * 1024
	answerBytesMax  = 64 * 1024 * 1024
	graceAfterLast  = 5 * time.Second
	eventsPerWakeup = 128
)

// report is what the program prints, as one line of JSON. Times are in microseconds from the drawn moment.
type report struct {
	Requests    int     `json:"requests"`
	BadStatuses int     `json:"bad_statuses"`
	Broken      int     `json:"broken"`
	Unanswered  int     `json:"unanswered"`
	DurationUs  int64   `json:"duration_us"`
	P50Us       float64 `json:"p50_us"`
	P90Us       float64 `json:"p90_us"`
	P99Us       float64 `json:"p99_us"`
	P999Us      float64 `json:"p999_us"`
	MaxUs       float64 `json:"max_us"`
	// How late the driver itself was, on requests for which a connection was free.
	LagP99Us float64 `json:"lag_p99_us"`
}

type connection struct {
	fd      int
	moment  int64
	unsent  []byte
	answer  []byte
	waiting bool
}

type driver struct {
	address  syscall.Sockaddr
	family   int
	epoll    int
	timer    int
	requests [][]byte
	moments  []int64
	next     int
	idle     []*connection
	byFd     map[int]*connection
	delays   []int64
	lags     []int64
	out      report
	chunk    []byte
}

func main() {
	address := flag.String("address", "", "host:port of the server")
	file := flag.String("requests", "", "file of records \"<length>\\n<bytes>\"")
	connections := flag.Int("connections", 64, "connections kept open")
	rate := flag.Float64("rate", 0, "requests a second")
	seconds := flag.Float64("seconds", 5, "how long")
	seed := flag.Int64("seed", 1, "of the moments")
	flag.Parse()
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	d := &driver{byFd: map[int]*connection{}, chunk: make([]byte, readChunk)}
	if err := d.run(*address, *file, *connections, *rate, *seconds, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "openloop:", err)
		os.Exit(1)
	}
}

func (d *driver) run(address, file string, connections int, rate, seconds float64, seed int64) error {
	if rate <= 0 || seconds <= 0 || connections <= 0 {
		return errors.New("rate, seconds and connections must be positive")
	}
	var err error
	if d.requests, err = load(file); err != nil {
		return err
	}
	if err = d.resolve(address); err != nil {
		return err
	}
	if d.epoll, err = syscall.EpollCreate1(0); err != nil {
		return err
	}
	timer, _, errno := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return errno
	}
	d.timer = int(timer)
	if err = d.watch(syscall.EPOLL_CTL_ADD, d.timer, syscall.EPOLLIN); err != nil {
		return err
	}
	for range connections {
		if err = d.connect(); err != nil {
			return err
		}
	}
	d.draw(rate, seconds, seed)
	if err = d.drive(); err != nil {
		return err
	}
	return d.print()
}

// load reads the records that load.py wrote.
func load(path string) ([][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var requests [][]byte
	for reader := bufio.NewReader(file); ; {
		line, err := reader.ReadString('\n')
		if err == io.EOF && line == "" {
			break
		}
		if err != nil {
			return nil, err
		}
		length, err := strconv.Atoi(line[:len(line)-1])
		if err != nil {
			return nil, err
		}
		request := make([]byte, length)
		if _, err := io.ReadFull(reader, request); err != nil {
			return nil, err
		}
		requests = append(requests, request)
	}
	if len(requests) == 0 {
		return nil, errors.New("no requests")
	}
	return requests, nil
}

func (d *driver) resolve(address string) error {
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	four := syscall.SockaddrInet4{Port: at.Port}
	copy(four.Addr[:], at.IP.To4())
	d.address, d.family = &four, syscall.AF_INET
	return nil
}

// draw fixes all moments before the first request: independent users, so exponential gaps; a seed repeats them.
func (d *driver) draw(rate, seconds float64, seed int64) {
	random := rand.New(rand.NewSource(seed))
	at, end := 0.0, seconds*1e9
	start := now() + int64(10*time.Millisecond)
	for {
		at += random.ExpFloat64() / rate * 1e9
		if at >= end {
			break
		}
		d.moments = append(d.moments, start+int64(at))
	}
	d.delays = make([]int64, 0, len(d.moments))
	d.lags = make([]int64, 0, len(d.moments))
}

func (d *driver) connect() error {
	fd, err := syscall.Socket(d.family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := syscall.Connect(fd, d.address); err != nil {
		return err
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	if err := d.watch(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN); err != nil {
		return err
	}
	c := &connection{fd: fd}
	d.byFd[fd] = c
	d.idle = append(d.idle, c)
	return nil
}

// again replaces a connection that failed or that the server closed.
func (d *driver) again(c *connection) error {
	delete(d.byFd, c.fd)
	if i := slices.Index(d.idle, c); i >= 0 {
		d.idle = slices.Delete(d.idle, i, i+1)
	}
	syscall.Close(c.fd)
	return d.connect()
}

func (d *driver) watch(operation, fd int, events uint32) error {
	return syscall.EpollCtl(d.epoll, operation, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

func (d *driver) drive() error {
	events := make([]syscall.EpollEvent, eventsPerWakeup)
	answered := func() int { return d.out.Requests + d.out.Broken }
	giveUpAt := int64(math.MaxInt64)
	if len(d.moments) > 0 {
		giveUpAt = d.moments[len(d.moments)-1] + int64(graceAfterLast)
	}
	for answered() < len(d.moments) && now() < giveUpAt {
		if err := d.sendDue(); err != nil {
			return err
		}
		wakeAt := giveUpAt
		if d.next < len(d.moments) && len(d.idle) > 0 {
			wakeAt = d.moments[d.next]
		}
		if err := d.arm(wakeAt); err != nil {
			return err
		}
		n, err := d.wait(events)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for _, event := range events[:n] {
			if int(event.Fd) == d.timer {
				var expirations [8]byte
				_, _ = raw(syscall.SYS_READ, d.timer, expirations[:])
			} else if c := d.byFd[int(event.Fd)]; c != nil {
				if err := d.serve(c, event.Events); err != nil {
					return err
				}
			}
		}
	}
	d.out.Unanswered = len(d.moments) - answered()
	if len(d.moments) > 0 {
		d.out.DurationUs = (now() - d.moments[0]) / 1000
	}
	return nil
}

// sendDue gives every request whose moment has come to a free connection; without one it waits, and its clock runs.
func (d *driver) sendDue() error {
	for d.next < len(d.moments) && len(d.idle) > 0 {
		at := now()
		if d.moments[d.next] > at {
			return nil
		}
		c := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		c.moment, c.waiting, c.answer = d.moments[d.next], true, c.answer[:0]
		c.unsent = d.requests[d.next%len(d.requests)]
		d.lags = append(d.lags, at-c.moment)
		d.next++
		if err := d.send(c); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) send(c *connection) error {
	n, err := raw(syscall.SYS_WRITE, c.fd, c.unsent)
	if err == syscall.EAGAIN {
		n, err = 0, nil
	}
	if err != nil {
		return d.broken(c)
	}
	c.unsent = c.unsent[n:]
	if len(c.unsent) > 0 {
		return d.watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	}
	return nil
}

func (d *driver) broken(c *connection) error {
	if c.waiting {
		d.out.Broken++
	}
	return d.again(c)
}

func (d *driver) serve(c *connection, events uint32) error {
	if events&syscall.EPOLLOUT != 0 && len(c.unsent) > 0 {
		if err := d.send(c); err != nil || len(c.unsent) > 0 {
			return err
		}
		if err := d.watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN); err != nil {
			return err
		}
	}
	if events&^uint32(syscall.EPOLLOUT) == 0 {
		return nil
	}
	n, err := raw(syscall.SYS_READ, c.fd, d.chunk)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return nil
	}
	if err != nil || n <= 0 || !c.waiting {
		return d.broken(c)
	}
	c.answer = append(c.answer, d.chunk[:n]...)
	status, closes, whole, err := parse(c.answer)
	if err != nil || len(c.answer) > answerBytesMax {
		return d.broken(c)
	}
	if !whole {
		return nil
	}
	d.delays = append(d.delays, now()-c.moment)
	d.out.Requests++
	if status < 200 || status > 299 {
		d.out.BadStatuses++
	}
	c.waiting = false
	if closes {
		return d.again(c)
	}
	d.idle = append(d.idle, c)
	return nil
}

// parse looks for one whole HTTP/1.1 answer, with a length or in chunks.
func parse(answer []byte) (status int, closes, whole bool, err error) {
	head, body, found := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !found {
		return 0, false, false, nil
	}
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, false, false, errors.New("no HTTP/1.1 answer")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, false, err
	}
	length, chunked := -1, false
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			closes = bytes.EqualFold(value, []byte("close"))
		}
	}
	if chunked {
		return status, closes, lastChunk(body), nil
	}
	if length < 0 {
		return 0, false, false, errors.New("an answer without a length")
	}
	return status, closes, len(body) >= length, nil
}

// lastChunk tells whether the chunks are all there. No trailers are expected.
func lastChunk(body []byte) bool {
	for {
		line, rest, found := bytes.Cut(body, []byte("\r\n"))
		if !found {
			return false
		}
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil || len(rest) < int(size)+2 {
			return false
		}
		if size == 0 {
			return true
		}
		body = rest[size+2:]
	}
}

var started = time.Now()

// now is in nanoseconds of the monotonic clock since the program's start.
func now() int64 { return int64(time.Since(started)) }

// arm sets the timer to go off at a moment, or at once when it has passed.
func (d *driver) arm(at int64) error {
	// An interval of 0, then the time to go, where 0 would disarm.
	spec := [2]syscall.Timespec{{}, syscall.NsecToTimespec(max(1, at-now()))}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(d.timer), 0,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// raw calls the kernel without telling Go's scheduler, which would hand the thread's work over and wake others for it:
// there is no other work, and this halves the driver's CPU.
func raw(call uintptr, fd int, bytes []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(bytes))),
		uintptr(len(bytes)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (d *driver) wait(events []syscall.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(d.epoll),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), ^uintptr(0), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (d *driver) print() error {
	if len(d.delays) > 0 {
		slices.Sort(d.delays)
		slices.Sort(d.lags)
		d.out.P50Us, d.out.P90Us = at(d.delays, 0.50), at(d.delays, 0.90)
		d.out.P99Us, d.out.P999Us = at(d.delays, 0.99), at(d.delays, 0.999)
		d.out.MaxUs = at(d.delays, 1)
		d.out.LagP99Us = at(d.lags, 0.99)
	}
	return json.NewEncoder(os.Stdout).Encode(d.out)
}

func at(sorted []int64, share float64) float64 {
	return float64(sorted[int(math.Ceil(share*float64(len(sorted))))-1]) / 1000
}
