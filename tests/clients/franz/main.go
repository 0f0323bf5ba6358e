// franz-go. Started by ../run: BOOTSTRAP, KILL_NODE and START_NODE are set. Prints "ok CHECK" or "not ok CHECK: why"; any other
// line is a remark. Exit status 0: every check was run.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

var (
	ctx    = context.Background()
	names  = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	codecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	admin  *kadm.Client
)

func report(name string, err error) {
	if err == nil {
		fmt.Println("ok", name)
		return
	}
	why := strings.ReplaceAll(err.Error(), "\n", " ")
	fmt.Printf("not ok %s: %s\n", name, why[:min(len(why), 600)])
}

func waitFor(limit time.Duration, what string, holds func() bool) error {
	for end := time.Now().Add(limit); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
	}
	return nil
}

func client(opts ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{kgo.SeedBrokers(strings.Split(os.Getenv("BOOTSTRAP"), ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner())}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		panic(err) // only wrong options end here
	}
	return cl
}

// The records that every client writes (../README.md).

func noise(seed, size int) []byte {
	out := make([]byte, size)
	for i := range out {
		seed = (75*seed + 74) % 65537
		out[i] = alphabet[seed%64]
	}
	return out
}

func records(topic string, c int) (out []*kgo.Record) {
	headers := [][]kgo.RecordHeader{
		nil,
		{{Key: "codec", Value: []byte(names[c])}, {Key: "empty", Value: []byte{}}},
		{{Key: "dup", Value: []byte("1")}, {Key: "dup", Value: []byte("2")}, {Key: "null"}},
	}
	for b := range 12 {
		count := 20
		if b == 10 {
			count = 3
		}
		for i := 20 * b; i < 20*b+count; i++ {
			r := &kgo.Record{Topic: topic, Partition: int32(3*c + b%3), Headers: headers[b%3]}
			switch b % 4 {
			case 0:
			case 1:
				r.Key = []byte{}
			default:
				r.Key = fmt.Appendf(nil, "key-%d", i)
			}
			switch b {
			case 6:
			case 7:
				r.Value = []byte{}
			case 8, 9:
				r.Value = noise(1000*c+i+1, 3000)
			case 10:
				r.Value = noise(1000*c+i+1, 900_000)
			default:
				r.Value = fmt.Appendf(nil, "%s-%d", names[c], i)
			}
			out = append(out, r)
		}
	}
	return out
}

// readAll returns every record of these partitions, from the earliest to the end as it is now.
func readAll(topic string, partitions ...int32) (map[int32][]*kgo.Record, error) {
	limited, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	ends, err := admin.ListEndOffsets(limited, topic)
	if err != nil {
		return nil, err
	}
	got, left, start := map[int32][]*kgo.Record{}, 0, map[int32]kgo.Offset{}
	for _, p := range partitions {
		end, ok := ends.Lookup(topic, p)
		if !ok || end.Err != nil {
			return nil, fmt.Errorf("end of partition %d: %v", p, end.Err)
		}
		left += int(end.Offset)
		got[p], start[p] = nil, kgo.NewOffset().AtStart()
	}
	cl := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: start}))
	defer cl.Close()
	for left > 0 {
		fetches := cl.PollFetches(limited)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d records left: %w", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[r.Partition], left = append(got[r.Partition], r), left-1 })
	}
	return got, nil
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// compare checks the records, and that some batch lies there in its codec (clients send what does not shrink as it is); codec 0 is any.
func compare(topic string, c int, codec uint8) error {
	expected := map[int32][]*kgo.Record{}
	for _, r := range records(topic, c) {
		expected[r.Partition] = append(expected[r.Partition], r)
	}
	all, err := readAll(topic, int32(3*c), int32(3*c+1), int32(3*c+2))
	if err != nil {
		return err
	}
	compressed := codec == 0
	for p, got := range all {
		want := expected[p]
		if len(got) != len(want) {
			return fmt.Errorf("partition %d: %d records, expected %d", p, len(got), len(want))
		}
		for i, a := range got {
			b := want[i]
			equal := same(a.Key, b.Key) && same(a.Value, b.Value) && a.Offset == int64(i) &&
				slices.EqualFunc(a.Headers, b.Headers, func(x, y kgo.RecordHeader) bool { return x.Key == y.Key && same(x.Value, y.Value) })
			if !equal {
				return fmt.Errorf("partition %d, offset %d of %d: %.40q %.40q %v, expected %.40q %.40q %v", p, a.Offset, i, a.Key, a.Value, a.Headers, b.Key, b.Value, b.Headers)
			}
			compressed = compressed || a.Attrs.CompressionType() == codec
		}
	}
	if !compressed {
		return fmt.Errorf("no batch is stored as %s", names[c])
	}
	return nil
}

func inSync(topic string, partitions int) func() bool {
	return func() bool {
		found, err := admin.ListTopics(ctx, topic)
		if err != nil || found[topic].Err != nil || len(found[topic].Partitions) != partitions {
			return false
		}
		for _, p := range found[topic].Partitions {
			if p.Leader <= 0 || len(p.Replicas) != 3 || len(p.ISR) != 3 {
				return false
			}
		}
		return true
	}
}

func create(topic string, partitions int32, factor int16, config map[string]*string) error {
	_, err := admin.CreateTopic(ctx, partitions, factor, config, topic)
	return err
}

func checkCreate() error {
	for topic, partitions := range map[string]int32{"records-franz": 15, "franz-group": 6, "franz-kill": 3, "franz-times": 1} {
		if err := create(topic, partitions, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}); err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
		if err := waitFor(30*time.Second, topic+" in sync", inSync(topic, int(partitions))); err != nil {
			return err
		}
	}
	return nil
}

func checkCluster() error {
	m, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if ids := m.Brokers.NodeIDs(); !slices.Equal(ids, []int32{1, 2, 3}) || !slices.Contains(ids, m.Controller) || m.Cluster == "" {
		return fmt.Errorf("nodes %v, controller %d, cluster %q", ids, m.Controller, m.Cluster)
	}
	return nil
}

func checkCodec(c int) error {
	cl := client(kgo.ProducerBatchCompression(codecs[c]))
	defer cl.Close()
	if err := cl.ProduceSync(ctx, records("records-franz", c)...).FirstErr(); err != nil {
		return fmt.Errorf("producing: %w", err)
	}
	return compare("records-franz", c, uint8(c))
}

func checkOthers() {
	topics, _ := admin.ListTopics(ctx)
	for _, topic := range topics.Names() {
		if strings.HasPrefix(topic, "records-") && topic != "records-franz" {
			var err error
			for c := 0; c < len(codecs) && err == nil; c++ {
				err = compare(topic, c, 0)
			}
			report("reads-"+topic, err)
		}
	}
}

func checkTimes() error {
	begin := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	cl := client()
	defer cl.Close()
	for i := range 50 {
		at := begin.Add(time.Duration(i) * time.Second)
		if i == 20 { // one is ahead of its time: the latest, but not the last
			at = begin.Add(100 * time.Second)
		}
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "franz-times", Value: []byte("t"), Timestamp: at}).FirstErr(); err != nil {
			return err
		}
	}
	offset := func(listed kadm.ListedOffsets, err error) (int64, error) {
		o, _ := listed.Lookup("franz-times", 0)
		return o.Offset, errors.Join(err, o.Err)
	}
	for _, c := range []struct{ ms, offset int64 }{{-5000, 0}, {0, 0}, {500, 1}, {19_000, 19}, {19_001, 20}, {60_000, 20}, {100_001, 50}} {
		found, err := offset(admin.ListOffsetsAfterMilli(ctx, begin.UnixMilli()+c.ms, "franz-times"))
		if err != nil || found != c.offset { // beyond the last, kadm answers with the end
			return fmt.Errorf("time %d: offset %d, expected %d (%v)", c.ms, found, c.offset, err)
		}
	}
	if found, err := offset(admin.ListStartOffsets(ctx, "franz-times")); err != nil || found != 0 {
		return fmt.Errorf("earliest: %d %v", found, err)
	}
	if found, err := offset(admin.ListMaxTimestampOffsets(ctx, "franz-times")); err != nil || found != 20 {
		return fmt.Errorf("max-timestamp: %d %v", found, err)
	}
	return nil
}

// feed sends records 0, 1, 2 ... at about 200 a second, spread over six partitions, until it is stopped.
type feed struct {
	stopping, done chan struct{}
	once           sync.Once
	sent           int
	err            error
}

func startFeed() *feed {
	f := &feed{stopping: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		cl := client(kgo.ProducerLinger(5 * time.Millisecond))
		defer cl.Close()
		var failed atomic.Pointer[error]
		for tick := time.NewTicker(5 * time.Millisecond); ; f.sent++ {
			select {
			case <-f.stopping:
				if f.err = cl.Flush(ctx); f.err == nil && failed.Load() != nil {
					f.err = *failed.Load()
				}
				return
			case <-tick.C:
				cl.Produce(ctx, &kgo.Record{Topic: "franz-group", Partition: int32(f.sent % 6), Value: strconv.AppendInt(nil, int64(f.sent), 10)}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Store(&err)
					}
				})
			}
		}
	}()
	return f
}

func (f *feed) stop() int {
	f.once.Do(func() { close(f.stopping) })
	<-f.done
	return f.sent
}

// group is what its members own and have handled.
type group struct {
	sync.Mutex
	id      string
	owners  map[int32]string
	handled map[string]int
	faults  []string
}

func (g *group) fault(format string, args ...any) {
	g.faults = append(g.faults, fmt.Sprintf(format, args...))
}

func (g *group) sharedBy(members ...string) func() bool {
	return func() bool {
		g.Lock()
		defer g.Unlock()
		seen := map[string]bool{}
		for _, name := range g.owners {
			seen[name] = true
		}
		all := len(g.owners) == 6 && len(seen) == len(members)
		for _, name := range members {
			all = all && seen[name]
		}
		return all
	}
}

// join starts a member; it notes what it owns and commits what it has handled before it gives a partition up. The result makes it leave.
func (g *group) join(name string, balancer kgo.GroupBalancer) (leave func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	cl := client(
		kgo.ConsumerGroup(g.id), kgo.ConsumeTopics("franz-group"), kgo.Balancers(balancer), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond), kgo.SessionTimeout(20*time.Second), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
			g.Lock()
			defer g.Unlock()
			for _, p := range given["franz-group"] {
				if other, owned := g.owners[p]; owned {
					g.fault("partition %d given to %s while %s owns it", p, name, other)
				}
				g.owners[p] = name
			}
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, cl *kgo.Client, taken map[string][]int32) {
			err := cl.CommitUncommittedOffsets(ctx)
			g.Lock()
			defer g.Unlock()
			if err != nil {
				g.fault("%s committing: %v", name, err)
			}
			for _, p := range taken["franz-group"] {
				delete(g.owners, p)
			}
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			g.Lock()
			defer g.Unlock()
			g.fault("%s lost %v", name, lost)
		}),
	)
	go func() {
		defer close(done)
		for {
			select {
			case <-stopped:
				cl.CloseAllowingRebalance()
				return
			default:
			}
			limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			fetches := cl.PollFetches(limited)
			cancel()
			g.Lock()
			fetches.EachError(func(_ string, p int32, err error) {
				if !errors.Is(err, context.DeadlineExceeded) {
					g.fault("%s, partition %d: %v", name, p, err)
				}
			})
			fetches.EachRecord(func(r *kgo.Record) {
				if g.owners[r.Partition] != name {
					g.fault("%s reads partition %d, which it does not own", name, r.Partition)
				}
				g.handled[string(r.Value)]++
			})
			g.Unlock()
			cl.AllowRebalance()
		}
	}()
	return sync.OnceFunc(func() { close(stopped); <-done })
}

func checkGroup(f *feed, balancer kgo.GroupBalancer, arrive func(), seen *sync.WaitGroup) (err error) {
	arrive = sync.OnceFunc(arrive)
	defer arrive()
	g := &group{id: "franz-" + balancer.ProtocolName(), owners: map[int32]string{}, handled: map[string]int{}}
	const limit = 40 * time.Second
	leaveA, leaveB := g.join("a", balancer), g.join("b", balancer)
	defer leaveB()
	defer leaveA()
	if err = waitFor(limit, "two members share the partitions", g.sharedBy("a", "b")); err != nil {
		return err
	}
	leaveC := g.join("c", balancer)
	defer leaveC()
	if err = waitFor(limit, "three members share the partitions", g.sharedBy("a", "b", "c")); err != nil {
		return err
	}
	if balancer.ProtocolName() == "range" {
		report("describe-group", checkDescribed(g.id))
	}
	leaveA()
	if err = waitFor(limit, "the two that stay share the partitions", g.sharedBy("b", "c")); err != nil {
		return err
	}
	arrive()
	seen.Wait() // the feed goes on until every group has seen its members come and go
	total := f.stop()
	if err = waitFor(limit, "all records handled", func() bool { g.Lock(); defer g.Unlock(); return len(g.handled) >= total }); err != nil {
		return err
	}
	leaveB()
	leaveC()
	for n, times := range g.handled {
		if times > 1 {
			g.fault("record %s handled %d times", n, times)
		}
	}
	if len(g.faults) > 0 {
		return errors.New(strings.Join(g.faults[:min(5, len(g.faults))], "; "))
	}
	return nil
}

func checkDescribed(id string) error {
	listed, err := admin.ListGroups(ctx)
	if err != nil || !slices.Contains(listed.Groups(), id) {
		return fmt.Errorf("listed: %v %w", listed.Groups(), err)
	}
	found, err := admin.DescribeGroups(ctx, id)
	if err != nil || found[id].Err != nil {
		return errors.Join(err, found[id].Err)
	}
	described := found[id]
	owned := described.AssignedPartitions()["franz-group"]
	if found[id].State != "Stable" || len(found[id].Members) != 3 || len(owned) != 6 {
		return fmt.Errorf("state %s, %d members own %v", found[id].State, len(found[id].Members), owned)
	}
	return nil
}

func checkGroups() error {
	f := startFeed()
	balancers := []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer(), kgo.StickyBalancer(), kgo.CooperativeStickyBalancer()}
	var seen, ended sync.WaitGroup
	seen.Add(len(balancers))
	for _, b := range balancers {
		ended.Go(func() { report("group-"+b.ProtocolName(), checkGroup(f, b, seen.Done, &seen)) })
	}
	ended.Wait()
	f.stop()
	return f.err
}

func checkResume() error {
	all, err := readAll("franz-group", 0, 1, 2, 3, 4, 5)
	if err != nil {
		return err
	}
	total, count, next := 0, 0, map[int32]int64{}
	for _, records := range all {
		total += len(records)
	}
	read := func(limit int) error {
		cl := client(kgo.ConsumerGroup("franz-resume"), kgo.ConsumeTopics("franz-group"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer cl.Close()
		limited, cancel := context.WithTimeout(ctx, 40*time.Second)
		defer cancel()
		for count < limit {
			fetches := cl.PollRecords(limited, limit-count)
			if err := fetches.Err(); err != nil {
				return fmt.Errorf("%d of %d records: %w", count, limit, err)
			}
			for _, r := range fetches.Records() {
				if r.Offset != next[r.Partition] {
					return fmt.Errorf("partition %d: offset %d, expected %d", r.Partition, r.Offset, next[r.Partition])
				}
				next[r.Partition], count = r.Offset+1, count+1
			}
		}
		return cl.CommitUncommittedOffsets(ctx)
	}
	if err := read(100); err != nil {
		return err
	}
	stored, err := admin.FetchOffsets(ctx, "franz-resume")
	if err != nil {
		return err
	}
	for p, offset := range next {
		if o, ok := stored.Lookup("franz-group", p); !ok || o.At != offset {
			return fmt.Errorf("partition %d: stored %d, read up to %d", p, o.At, offset)
		}
	}
	return read(total)
}

func checkErrors() {
	expect := func(name string, expected, found error) {
		if errors.Is(found, expected) {
			found = nil
		} else {
			found = fmt.Errorf("%v, expected %v", found, expected)
		}
		report(name, found)
	}
	expect("topic-exists", kerr.TopicAlreadyExists, create("franz-kill", 1, 3, nil))
	expect("illegal-name", kerr.InvalidTopicException, create("franz topic?", 1, 3, nil))
	expect("rf-above-brokers", kerr.InvalidReplicationFactor, create("franz-four", 1, 4, nil))
	expect("no-partitions", kerr.InvalidPartitions, create("franz-none", 0, 3, nil))
	expect("illegal-config", kerr.InvalidConfig, create("franz-config", 1, 3, map[string]*string{"retention.ms": kadm.StringPtr("soon")}))
	listed, err := admin.ListTopics(ctx, "franz-no-such-topic")
	expect("unknown-topic", kerr.UnknownTopicOrPartition, errors.Join(err, listed["franz-no-such-topic"].Err))
	cl := client(kgo.ProducerBatchMaxBytes(5_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer cl.Close()
	expect("too-large", kerr.MessageTooLarge, cl.ProduceSync(ctx, &kgo.Record{Topic: "franz-kill", Partition: 2, Value: make([]byte, 2_000_000)}).FirstErr())
}

func command(template string, node int32) error {
	c := exec.Command("sh", "-c", strings.ReplaceAll(os.Getenv(template), "{}", fmt.Sprint(node)))
	c.Stderr = os.Stderr
	return c.Run()
}

// checkKill sends records at a steady rate, idempotently (franz-go's default), while the leader of partition 0 is killed.
func checkKill() error {
	const topic = "franz-kill"
	if err := waitFor(60*time.Second, topic+" in sync", inSync(topic, 3)); err != nil {
		return err
	}
	found, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	leader := found[topic].Partitions[0].Leader
	cl := client(kgo.ProducerLinger(time.Millisecond))
	defer cl.Close()
	var (
		lock               sync.Mutex
		lastAck            time.Time
		gap                time.Duration
		acked              = -1 // of partition 0
		failed             []error
		sent, afterKill    int
		killed, aliveAgain time.Time
	)
	done := func(n int) func(*kgo.Record, error) {
		return func(_ *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				failed = append(failed, err)
			} else if n%3 == 0 {
				if now := time.Now(); !lastAck.IsZero() {
					gap, lastAck = max(gap, now.Sub(lastAck)), now
				} else {
					lastAck = now
				}
				acked = n
			}
		}
	}
	began, tick := time.Now(), time.NewTicker(5*time.Millisecond)
	for ; time.Since(began) < 90*time.Second; sent++ {
		<-tick.C
		if killed.IsZero() && time.Since(began) > 2*time.Second {
			if err := command("KILL_NODE", leader); err != nil {
				return err
			}
			killed, afterKill = time.Now(), sent
		}
		// What was in flight may still be answered: an acknowledgement of a record sent later shows a new leader.
		lock.Lock()
		if !killed.IsZero() && aliveAgain.IsZero() && acked >= afterKill {
			aliveAgain = time.Now()
		}
		lock.Unlock()
		if !aliveAgain.IsZero() && time.Since(aliveAgain) > 2*time.Second {
			break
		}
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(sent % 3), Value: strconv.AppendInt(nil, int64(sent), 10)}, done(sent))
	}
	limited, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	err = errors.Join(cl.Flush(limited), command("START_NODE", leader), errors.Join(failed...))
	if err == nil && aliveAgain.IsZero() {
		err = errors.New("no acknowledgement from partition 0 within 90 s of the kill")
	}
	if err != nil {
		return err
	}
	fmt.Printf("kill-leader: %d records, longest gap between acknowledgements %d ms\n", sent, gap.Milliseconds())
	all, err := readAll(topic, 0, 1, 2)
	if err != nil {
		return err
	}
	for p, got := range all {
		distinct := map[string]bool{}
		inOrder := true
		for i, r := range got {
			distinct[string(r.Value)] = true
			inOrder = inOrder && string(r.Value) == strconv.Itoa(3*i+int(p))
		}
		if want := (sent - int(p) + 2) / 3; len(got) != want || !inOrder {
			return fmt.Errorf("partition %d: %d sent, %d read, %d distinct, in order: %v", p, want, len(got), len(distinct), inOrder)
		}
	}
	return waitFor(60*time.Second, topic+" in sync again", inSync(topic, 3))
}

func checkDelete() error {
	if _, err := admin.DeleteTopic(ctx, "franz-times"); err != nil {
		return err
	}
	return waitFor(15*time.Second, "topic gone", func() bool {
		listed, err := admin.ListTopics(ctx)
		return err == nil && !listed.Has("franz-times")
	})
}

func main() {
	admin = kadm.NewClient(client())
	report("create", checkCreate())
	report("describe-cluster", checkCluster())
	for c, name := range names {
		report("codec-"+name, checkCodec(c))
	}
	checkOthers()
	report("offsets-by-time", checkTimes())
	report("group-feed", checkGroups())
	report("commit-resume", checkResume())
	checkErrors()
	report("delete", checkDelete())
	report("kill-leader", checkKill())
}
