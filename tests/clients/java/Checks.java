import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.Phaser;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client. Started by ../run: BOOTSTRAP, KILL_NODE and START_NODE are set. Prints "ok CHECK" or "not ok CHECK: why";
 * any other line is a remark. Exit status 0: every check was run.
 */
public final class Checks {
    private static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    private static final byte[] ALPHABET = bytes("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    private static Admin admin;

    private interface Check {
        void run() throws Exception;
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static final class Failure extends Exception {
        private static final long serialVersionUID = 1;

        Failure(String why) {
            super(why);
        }
    }

    private static void check(String name, Check check) {
        try {
            check.run();
            System.out.println("ok " + name);
        } catch (Throwable e) { // a check reports whatever went wrong, and the next one runs
            Throwable why = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
            System.out.println("not ok " + name + ": " + cut(why.toString().replace('\n', ' '), 600));
        }
    }

    private static void expect(boolean condition, String why) throws Failure {
        if (!condition) throw new Failure(why);
    }

    private static void waitFor(int seconds, String what, Condition condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.holds()) {
            expect(System.nanoTime() < end, what + ": not within " + seconds + " s");
            Thread.sleep(100);
        }
    }

    private static String cut(String text, int length) {
        return text.length() <= length ? text : text.substring(0, length);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String show(byte[] data) {
        return data == null ? "null" : '"' + cut(new String(data, StandardCharsets.UTF_8), 40) + "\"/" + data.length;
    }

    // The records that every client writes (../README.md).

    private static byte[] noise(int seed, int size) {
        byte[] out = new byte[size];
        int state = seed;
        for (int i = 0; i < size; i++) {
            state = (75 * state + 74) % 65537;
            out[i] = ALPHABET[state % 64];
        }
        return out;
    }

    private static List<ProducerRecord<byte[], byte[]>> records(String topic, int c) {
        String codec = CODECS[c];
        List<List<Header>> headers = List.of(
            List.of(),
            List.of(new RecordHeader("codec", bytes(codec)), new RecordHeader("empty", new byte[0])),
            List.of(new RecordHeader("dup", bytes("1")), new RecordHeader("dup", bytes("2")), new RecordHeader("null", (byte[]) null)));
        List<ProducerRecord<byte[], byte[]>> out = new ArrayList<>();
        for (int b = 0; b < 12; b++) {
            for (int j = 0; j < (b == 10 ? 3 : 20); j++) {
                int i = 20 * b + j;
                byte[] key = b % 4 == 0 ? null : b % 4 == 1 ? new byte[0] : bytes("key-" + i);
                byte[] value = switch (b) {
                    case 6 -> null;
                    case 7 -> new byte[0];
                    case 8, 9 -> noise(1000 * c + i + 1, 3000);
                    case 10 -> noise(1000 * c + i + 1, 900_000);
                    default -> bytes(codec + "-" + i);
                };
                out.add(new ProducerRecord<>(topic, 3 * c + b % 3, key, value, headers.get(b % 3)));
            }
        }
        return out;
    }

    private static KafkaProducer<byte[], byte[]> producer(Object... config) {
        return new KafkaProducer<>(properties(config), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Object... config) {
        Properties p = properties(config);
        p.putIfAbsent("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", false);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Properties properties(Object... config) {
        Properties p = new Properties();
        p.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < config.length; i += 2) p.put(config[i], config[i + 1]);
        return p;
    }

    /** Every record of these partitions, from the earliest to the end as it is now. */
    private static Map<Integer, List<ConsumerRecord<byte[], byte[]>>> readAll(String topic, int first, int count) throws Failure {
        try (var consumer = consumer()) {
            List<TopicPartition> partitions = IntStream.range(first, first + count).mapToObj(p -> new TopicPartition(topic, p)).toList();
            Map<Integer, List<ConsumerRecord<byte[], byte[]>>> got = new TreeMap<>();
            partitions.forEach(p -> got.put(p.partition(), new ArrayList<>()));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                expect(System.nanoTime() < deadline, "reading stops before the ends " + ends);
                for (var r : consumer.poll(Duration.ofMillis(500))) got.get(r.partition()).add(r);
            }
            return got;
        }
    }

    private static void compare(String topic, int c) throws Failure {
        Map<Integer, List<ProducerRecord<byte[], byte[]>>> expected =
            records(topic, c).stream().collect(Collectors.groupingBy(ProducerRecord::partition));
        for (var entry : readAll(topic, 3 * c, 3).entrySet()) {
            var want = expected.get(entry.getKey());
            var got = entry.getValue();
            expect(got.size() == want.size(), "partition " + entry.getKey() + ": " + got.size() + " records, expected " + want.size());
            for (int n = 0; n < got.size(); n++) {
                ConsumerRecord<byte[], byte[]> a = got.get(n);
                ProducerRecord<byte[], byte[]> b = want.get(n);
                boolean same = Arrays.equals(a.key(), b.key()) && Arrays.equals(a.value(), b.value())
                    && Arrays.equals(a.headers().toArray(), b.headers().toArray()) && a.offset() == n;
                expect(same, "partition " + a.partition() + ", offset " + a.offset() + " of " + n + ": " + show(a.key()) + " " + show(a.value()) + " "
                    + a.headers() + ", expected " + show(b.key()) + " " + show(b.value()) + " " + b.headers());
            }
        }
    }

    private static TopicDescription describe(String topic) throws Exception {
        return admin.describeTopics(Set.of(topic)).allTopicNames().get().get(topic);
    }

    private static boolean inSync(String topic, int partitions) throws Exception {
        try {
            var found = describe(topic).partitions();
            return found.size() == partitions
                && found.stream().allMatch(p -> p.leader() != null && p.leader().id() > 0 && p.replicas().size() == 3 && p.isr().size() == 3);
        } catch (ExecutionException e) {
            return false;
        }
    }

    private static void create(String topic, int partitions, int factor, Map<String, String> config) throws Exception {
        admin.createTopics(Set.of(new NewTopic(topic, partitions, (short) factor).configs(config))).all().get();
    }

    private static void checkCreate() throws Exception {
        for (var t : Map.of("records-java", 15, "java-group", 6, "java-kill", 3, "java-times", 1).entrySet()) {
            create(t.getKey(), t.getValue(), 3, Map.of("min.insync.replicas", "2"));
            waitFor(30, t.getKey() + " in sync", () -> inSync(t.getKey(), t.getValue()));
        }
    }

    private static void checkCluster() throws Exception {
        var cluster = admin.describeCluster();
        Set<Integer> nodes = cluster.nodes().get().stream().map(n -> n.id()).collect(Collectors.toCollection(TreeSet::new));
        expect(nodes.equals(Set.of(1, 2, 3)), "nodes " + nodes);
        expect(nodes.contains(cluster.controller().get().id()), "controller " + cluster.controller().get());
        expect(!cluster.clusterId().get().isEmpty(), "no cluster id");
    }

    private static void checkCodec(int c) throws Exception {
        try (var producer = producer("acks", "all", "compression.type", CODECS[c])) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (var record : records("records-java", c)) sent.add(producer.send(record));
            for (var s : sent) s.get();
        }
        compare("records-java", c);
    }

    private static void checkOthers() throws Exception {
        for (String topic : new TreeSet<>(admin.listTopics().names().get())) {
            if (!topic.startsWith("records-") || topic.equals("records-java")) continue;
            check("reads-" + topic, () -> {
                for (int c = 0; c < CODECS.length; c++) compare(topic, c);
            });
        }
    }

    private static void checkTimes() throws Exception {
        long begin = System.currentTimeMillis() - 3_600_000;
        TopicPartition partition = new TopicPartition("java-times", 0);
        try (var producer = producer("acks", "all"); var consumer = consumer()) {
            for (int i = 0; i < 50; i++) { // one is ahead of its time: the latest, but not the last
                producer.send(new ProducerRecord<>("java-times", 0, begin + (i == 20 ? 100_000 : 1000 * i), null, bytes("t")));
            }
            producer.flush();
            long[][] cases = {{-5000, 0}, {0, 0}, {500, 1}, {19_000, 19}, {19_001, 20}, {60_000, 20}, {100_001, -1}};
            for (long[] c : cases) {
                var found = consumer.offsetsForTimes(Map.of(partition, begin + c[0])).get(partition);
                expect((found == null ? -1 : found.offset()) == c[1], "time " + c[0] + ": " + found + ", expected " + c[1]);
            }
        }
        Map<OffsetSpec, Long> specs = Map.of(OffsetSpec.earliest(), 0L, OffsetSpec.latest(), 50L, OffsetSpec.maxTimestamp(), 20L);
        for (var spec : specs.entrySet()) {
            long found = admin.listOffsets(Map.of(partition, spec.getKey())).partitionResult(partition).get().offset();
            expect(found == spec.getValue(), spec.getKey().getClass().getSimpleName() + ": " + found + ", expected " + spec.getValue());
        }
    }

    /** Records 0, 1, 2 ... at about 200 a second, spread over six partitions, until it is stopped. */
    private static final class Feed extends Thread {
        private final AtomicBoolean stopping = new AtomicBoolean();
        private final Collection<String> errors = new ConcurrentLinkedQueue<>();
        private int sent;

        @Override
        public void run() {
            try (var producer = producer("acks", "all", "linger.ms", 5)) {
                for (; !stopping.get(); sent++) {
                    producer.send(new ProducerRecord<>("java-group", sent % 6, null, bytes("" + sent)), (m, e) -> {
                        if (e != null) errors.add(e.toString());
                    });
                    sleep(5);
                }
            } catch (InterruptedException e) {
                errors.add(e.toString());
            }
        }

        int stopped() throws InterruptedException {
            stopping.set(true);
            join();
            return sent;
        }
    }

    /** What one group owns and has handled, seen by all its members. */
    private static final class Group {
        final String id;
        final Class<?> assignor;
        final Map<Integer, String> owners = new ConcurrentHashMap<>();
        final Map<Integer, Integer> handled = new ConcurrentHashMap<>();
        final Collection<String> faults = new ConcurrentLinkedQueue<>();

        Group(Class<?> assignor) {
            this.id = "java-" + assignor.getSimpleName();
            this.assignor = assignor;
        }

        Condition sharedBy(Member... members) {
            Set<String> names = Arrays.stream(members).map(Thread::getName).collect(Collectors.toSet());
            return () -> owners.size() == 6 && Set.copyOf(owners.values()).equals(names);
        }
    }

    /** A member notes what it owns, and commits what it has handled before it gives a partition up. */
    private static final class Member extends Thread implements ConsumerRebalanceListener {
        private final Group group;
        private final AtomicBoolean leaving = new AtomicBoolean();
        private KafkaConsumer<byte[], byte[]> consumer;

        Member(Group group, String name) {
            super(name);
            this.group = group;
            setDaemon(true);
            start();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            for (var p : partitions) {
                String other = group.owners.putIfAbsent(p.partition(), getName());
                if (other != null) group.faults.add(p + " given to " + getName() + " while " + other + " owns it");
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            consumer.commitSync();
            for (var p : partitions) group.owners.remove(p.partition());
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            group.faults.add(getName() + " lost " + partitions);
        }

        @Override
        public void run() {
            try {
                consumer = consumer("group.id", group.id, "partition.assignment.strategy", group.assignor.getName(),
                    "heartbeat.interval.ms", 500, "session.timeout.ms", 20_000);
                consumer.subscribe(Set.of("java-group"), this);
                while (!leaving.get()) {
                    for (var r : consumer.poll(Duration.ofMillis(100))) {
                        if (!getName().equals(group.owners.get(r.partition()))) group.faults.add(getName() + " reads " + r.partition() + ", which it does not own");
                        group.handled.merge(Integer.parseInt(new String(r.value(), StandardCharsets.UTF_8)), 1, Integer::sum);
                    }
                }
                consumer.close();
            } catch (RuntimeException e) {
                group.faults.add(getName() + ": " + e);
            }
        }

        void leave() throws InterruptedException {
            leaving.set(true);
            join();
        }
    }

    private static void groupOfThree(Feed feed, Group group, Phaser rest) throws Exception {
        try {
            Member a = new Member(group, "a"), b = new Member(group, "b");
            waitFor(40, "two members share the partitions", group.sharedBy(a, b));
            Member c = new Member(group, "c");
            waitFor(40, "three members share the partitions", group.sharedBy(a, b, c));
            if (group.assignor == RangeAssignor.class) check("describe-group", () -> checkDescribed(group.id));
            a.leave();
            waitFor(40, "the two that stay share the partitions", group.sharedBy(b, c));
            rest.arriveAndAwaitAdvance(); // the feed goes on until every group has seen its members come and go
            int total = feed.stopped();
            waitFor(40, total + " records handled", () -> group.handled.size() >= total);
            b.leave();
            c.leave();
            long twice = group.handled.values().stream().filter(times -> times > 1).count();
            expect(twice == 0, twice + " records handled twice");
            expect(group.faults.isEmpty(), group.faults.toString());
        } finally {
            rest.arriveAndDeregister();
        }
    }

    private static void checkDescribed(String group) throws Exception {
        expect(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "not listed");
        var found = admin.describeConsumerGroups(Set.of(group)).all().get().get(group);
        expect(found.groupState().name().equals("STABLE"), "state " + found.groupState());
        var owned = found.members().stream().flatMap(m -> m.assignment().topicPartitions().stream()).map(TopicPartition::partition).sorted().toList();
        expect(found.members().size() == 3 && owned.equals(List.of(0, 1, 2, 3, 4, 5)), found.members().size() + " members own " + owned);
    }

    private static void checkGroups() throws Exception {
        Feed feed = new Feed();
        feed.start();
        List<Class<?>> assignors = List.of(RangeAssignor.class, RoundRobinAssignor.class, StickyAssignor.class, CooperativeStickyAssignor.class);
        Phaser rest = new Phaser(assignors.size());
        List<Thread> threads = new ArrayList<>();
        for (var assignor : assignors) {
            Group group = new Group(assignor);
            threads.add(new Thread(() -> check("group-" + assignor.getSimpleName(), () -> groupOfThree(feed, group, rest))));
        }
        threads.forEach(Thread::start);
        for (Thread t : threads) t.join();
        feed.stopped();
        expect(feed.errors.isEmpty(), "producing: " + feed.errors);
    }

    /** A static member that comes back within its session finds its partitions again, without a rebalance. */
    private static void checkStaticMember() throws Exception {
        Object[] config = {"group.id", "java-static", "group.instance.id", "one", "session.timeout.ms", 20_000};
        List<Integer> generations = new ArrayList<>();
        for (int round = 0; round < 2; round++) {
            try (var consumer = consumer(config)) {
                consumer.subscribe(Set.of("java-group"));
                waitFor(40, "assignment", () -> !consumer.poll(Duration.ofMillis(100)).isEmpty() && consumer.assignment().size() == 6);
                generations.add(consumer.groupMetadata().generationId());
            }
        }
        expect(generations.get(0).equals(generations.get(1)), "generations " + generations);
    }

    private static void checkResume() throws Exception {
        int total = readAll("java-group", 0, 6).values().stream().mapToInt(List::size).sum();
        Map<Integer, List<Long>> seen = new TreeMap<>();
        Map<TopicPartition, Long> positions = new HashMap<>();
        try (var first = consumer("group.id", "java-resume", "max.poll.records", 7)) {
            first.subscribe(Set.of("java-group"));
            read(first, seen, 100);
            seen.forEach((p, offsets) -> positions.put(new TopicPartition("java-group", p), offsets.get(offsets.size() - 1) + 1));
            first.commitSync();
        }
        Map<TopicPartition, Long> stored = new HashMap<>();
        admin.listConsumerGroupOffsets("java-resume").partitionsToOffsetAndMetadata().get().forEach((p, o) -> stored.put(p, o.offset()));
        stored.values().removeIf(o -> o == 0); // a partition of which nothing was read yet
        expect(stored.equals(positions), "stored " + stored + ", read up to " + positions);
        try (var second = consumer("group.id", "java-resume")) {
            second.subscribe(Set.of("java-group"));
            read(second, seen, total);
        }
        for (var e : seen.entrySet()) {
            expect(IntStream.range(0, e.getValue().size()).allMatch(n -> e.getValue().get(n) == n), "partition " + e.getKey() + ": not one after the other");
        }
    }

    private static void read(KafkaConsumer<byte[], byte[]> consumer, Map<Integer, List<Long>> seen, int count) throws Exception {
        waitFor(40, count + " records read", () -> {
            for (var r : consumer.poll(Duration.ofMillis(200))) seen.computeIfAbsent(r.partition(), p -> new ArrayList<>()).add(r.offset());
            return seen.values().stream().mapToInt(List::size).sum() >= count;
        });
    }

    private static void checkErrors() {
        checkError("topic-exists", "TopicExistsException", () -> create("java-kill", 1, 3, Map.of()));
        checkError("illegal-name", "InvalidTopicException", () -> create("java topic?", 1, 3, Map.of()));
        checkError("rf-above-brokers", "InvalidReplicationFactorException", () -> create("java-four", 1, 4, Map.of()));
        checkError("no-partitions", "InvalidPartitionsException", () -> create("java-none", 0, 3, Map.of()));
        checkError("illegal-config", "InvalidConfigurationException", () -> create("java-config", 1, 3, Map.of("retention.ms", "soon")));
        checkError("unknown-topic", "UnknownTopicOrPartitionException", () -> describe("java-no-such-topic"));
        checkError("too-large", "RecordTooLargeException", () -> {
            try (var producer = producer("max.request.size", 5_000_000)) {
                producer.send(new ProducerRecord<>("java-kill", 2, null, new byte[2_000_000])).get();
            }
        });
        check("no-transactions", () -> {
            String found = "they began";
            try (var producer = producer("transactional.id", "java")) {
                producer.initTransactions();
            } catch (KafkaException e) {
                found = e.toString();
            }
            expect(found.contains("no transactions yet"), found);
        });
    }

    private static void checkError(String name, String expected, Check call) {
        check(name, () -> {
            String found = "no error";
            try {
                call.run();
            } catch (ExecutionException e) {
                found = e.getCause().getClass().getSimpleName();
            }
            expect(found.equals(expected), found + ", expected " + expected);
        });
    }

    private static void command(String template, int node) throws Exception {
        Process p = new ProcessBuilder("sh", "-c", System.getenv(template).replace("{}", "" + node))
            .redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        expect(p.waitFor() == 0, template + " " + node + ": exit status " + p.exitValue());
    }

    /** Records at a steady rate from an idempotent producer while the leader of partition 0 is killed. */
    private static void checkKill() throws Exception {
        String topic = "java-kill";
        waitFor(60, topic + " in sync", () -> inSync(topic, 3));
        int leader = describe(topic).partitions().get(0).leader().id();
        List<Long> acks = Collections.synchronizedList(new ArrayList<>()); // of partition 0, in nanoseconds
        Collection<String> errors = new ConcurrentLinkedQueue<>();
        AtomicInteger acked = new AtomicInteger(-1);
        int sent = 0, afterKill = Integer.MAX_VALUE;
        long began = System.nanoTime(), aliveAgain = 0;
        try (var producer = producer("acks", "all", "enable.idempotence", true, "linger.ms", 1)) {
            for (;; sent++) {
                long now = System.nanoTime() - began;
                if (afterKill == Integer.MAX_VALUE && now > 2e9) {
                    command("KILL_NODE", leader);
                    afterKill = sent;
                }
                // What was in flight may still be answered: an acknowledgement of a record sent later shows a new leader.
                if (aliveAgain == 0 && acked.get() >= afterKill) aliveAgain = now;
                if (aliveAgain != 0 && now - aliveAgain > 2e9 || now > 90e9) break;
                int n = sent;
                producer.send(new ProducerRecord<>(topic, n % 3, null, bytes("" + n)), (m, e) -> {
                    if (e != null) {
                        errors.add(e.toString());
                    } else if (n % 3 == 0) {
                        acks.add(System.nanoTime());
                        acked.set(n);
                    }
                });
                TimeUnit.NANOSECONDS.sleep(Math.max(0, began + sent * 5_000_000L - System.nanoTime()));
            }
        }
        command("START_NODE", leader);
        expect(aliveAgain != 0, "no acknowledgement from partition 0 within 90 s of the kill");
        expect(errors.isEmpty(), errors.size() + " errors: " + errors.stream().limit(3).toList());
        long gap = IntStream.range(1, acks.size()).mapToLong(i -> acks.get(i) - acks.get(i - 1)).max().orElse(0);
        int total = sent;
        System.out.println("kill-leader: " + total + " records, longest gap between acknowledgements " + gap / 1_000_000 + " ms");
        for (var e : readAll(topic, 0, 3).entrySet()) {
            List<Integer> got = e.getValue().stream().map(r -> Integer.parseInt(new String(r.value(), StandardCharsets.UTF_8))).toList();
            List<Integer> want = IntStream.iterate(e.getKey(), n -> n < total, n -> n + 3).boxed().toList();
            expect(got.equals(want), "partition " + e.getKey() + ": " + want.size() + " sent, " + got.size() + " read, " + Set.copyOf(got).size() + " distinct");
        }
        waitFor(60, topic + " in sync again", () -> inSync(topic, 3));
    }

    private static void checkDelete() throws Exception {
        admin.deleteTopics(Set.of("java-times")).all().get();
        waitFor(15, "topic gone", () -> !admin.listTopics().names().get().contains("java-times"));
    }

    public static void main(String[] args) {
        admin = Admin.create(properties("request.timeout.ms", 15_000, "default.api.timeout.ms", 30_000));
        check("create", Checks::checkCreate);
        check("describe-cluster", Checks::checkCluster);
        for (int c = 0; c < CODECS.length; c++) {
            int codec = c;
            check("codec-" + CODECS[c], () -> checkCodec(codec));
        }
        check("list-topics", Checks::checkOthers);
        check("offsets-by-time", Checks::checkTimes);
        check("group-feed", Checks::checkGroups);
        check("static-member", Checks::checkStaticMember);
        check("commit-resume", Checks::checkResume);
        checkErrors();
        check("delete", Checks::checkDelete);
        check("kill-leader", Checks::checkKill);
        System.exit(0); // members of a failed group may still run
    }
}
