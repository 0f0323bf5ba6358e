import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A client of the fault test on Kafka's own library: the same roles, options and lines as librdkafka.py. */
public final class Workload {
    private static final long WRITER_STEP = 1_000_000_000L;
    private static final String PADDING = ".".repeat(90);

    private final Map<String, String> options = new HashMap<>();
    private final BufferedWriter out;
    private long flushed;
    private volatile boolean stopping;

    private Workload(String[] arguments) throws IOException {
        for (int i = 1; i + 1 < arguments.length; i += 2) options.put(arguments[i].substring(2), arguments[i + 1]);
        out = Files.newBufferedWriter(Path.of(options.get("out")), StandardCharsets.UTF_8);
        Thread waiting = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException e) {
                // Nobody is there any more: the same.
            }
            stopping = true;
        });
        waiting.setDaemon(true);
        waiting.start();
    }

    public static void main(String[] arguments) throws Exception {
        Workload workload = new Workload(arguments);
        switch (arguments[0]) {
            case "producer" -> workload.produce();
            case "consumer" -> workload.consume();
            case "member" -> workload.join();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        workload.out.close();
    }

    private synchronized void write(String op, String fields) {
        long now = System.nanoTime();
        try {
            out.write("{\"t\":" + now + ",\"op\":\"" + op + "\"," + fields + "}\n");
            if (now - flushed > 200_000_000L) {
                out.flush();
                flushed = now;
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static String text(Object value) {
        return "\"" + String.valueOf(value).replaceAll("[\\\\\"\\p{Cntrl}]", " ") + "\"";
    }

    private void trouble(String when, Exception e) {
        write("trouble", "\"error\":" + text(e.getClass().getSimpleName() + ": " + when + ": " + e.getMessage()));
    }

    private Properties base() {
        Properties p = new Properties();
        p.put("bootstrap.servers", options.get("bootstrap"));
        p.put("client.id", options.get("name"));
        return p;
    }

    private int partitions() {
        return Integer.parseInt(options.get("partitions"));
    }

    private KafkaProducer<byte[], byte[]> producer() {
        Properties p = base();
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        // Sending must not wait: at a steady rate nothing is held back because of a partition without leader.
        p.put("max.block.ms", "1000");
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private void produce() throws InterruptedException {
        long writer = Long.parseLong(options.get("writer")), count = 0;
        double rate = Double.parseDouble(options.get("rate"));
        String topic = options.get("topic");
        KafkaProducer<byte[], byte[]> p = producer();
        long begun = System.nanoTime();
        while (!stopping) {
            long value = writer * WRITER_STEP + count;
            int partition = (int) (count % partitions());
            count++;
            write("send", "\"p\":" + partition + ",\"v\":" + value);
            byte[] bytes = (value + PADDING).getBytes(StandardCharsets.UTF_8);
            try {
                p.send(new ProducerRecord<>(topic, partition, null, bytes), (done, e) -> {
                    if (e == null) {
                        long offset = done.hasOffset() ? done.offset() : -1;
                        write("ack", "\"v\":" + value + ",\"p\":" + partition + ",\"o\":" + offset);
                    } else {
                        write("unknown", "\"v\":" + value + ",\"error\":" + text(e.getClass().getSimpleName()));
                    }
                });
            } catch (KafkaException e) {
                write("unknown", "\"v\":" + value + ",\"error\":" + text(e.getClass().getSimpleName()));
                trouble("send, a new producer goes on", e);
                p.close(Duration.ZERO);
                p = producer();
            }
            long due = begun + (long) (count * 1e9 / rate), ahead = due - System.nanoTime();
            // Late by more than this, it goes on from now: what was not sent is not made up for.
            if (ahead < -1_000_000_000L) begun -= ahead;
            if (ahead > 0) Thread.sleep(ahead / 1_000_000, (int) (ahead % 1_000_000));
        }
        p.close(Duration.ofSeconds(120));
    }

    private static long valueOf(byte[] bytes) {
        if (bytes == null) return -1;
        long value = 0;
        int digits = 0;
        while (digits < bytes.length && bytes[digits] >= '0' && bytes[digits] <= '9') value = 10 * value + bytes[digits++] - '0';
        return digits == 0 ? -1 : value;
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group, String reset) {
        Properties p = base();
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", reset);
        if (group != null) {
            p.put("group.id", group);
            p.put("session.timeout.ms", "10000");
        }
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Writes down what was polled; the next offset of each partition. */
    private Map<Integer, Long> note(String op, String more, ConsumerRecords<byte[], byte[]> polled) {
        Map<Integer, Long> next = new TreeMap<>();
        for (TopicPartition partition : polled.partitions()) {
            StringBuilder rows = new StringBuilder();
            for (var record : polled.records(partition)) {
                rows.append(rows.length() == 0 ? "" : ",").append('[').append(record.offset()).append(',')
                    .append(valueOf(record.value())).append(']');
                next.put(partition.partition(), record.offset() + 1);
            }
            write(op, more + "\"p\":" + partition.partition() + ",\"rows\":[" + rows + "]");
        }
        return next;
    }

    private void consume() {
        List<TopicPartition> all = new ArrayList<>();
        for (int p = 0; p < partitions(); p++) all.add(new TopicPartition(options.get("topic"), p));
        try (KafkaConsumer<byte[], byte[]> c = consumer(null, "none")) {
            c.assign(all);
            all.forEach(p -> c.seek(p, 0));
            // At the end, what is there already is still read.
            for (int quiet = 0; !stopping || quiet < 4; quiet++) {
                try {
                    if (!note("poll", "", c.poll(Duration.ofMillis(250))).isEmpty()) quiet = 0;
                } catch (KafkaException e) {
                    trouble("poll", e);
                }
            }
        }
    }

    private void join() {
        String topic = options.get("topic"), group = options.get("group"), named = "\"group\":" + text(group) + ",";
        Map<Integer, Long> handled = new TreeMap<>();
        try (KafkaConsumer<byte[], byte[]> c = consumer(group, "earliest")) {
            c.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    long since = System.nanoTime();
                    try {
                        c.committed(new java.util.HashSet<>(partitions), Duration.ofSeconds(10)).forEach((p, o) ->
                            write("committed", named + "\"since\":" + since + ",\"p\":" + p.partition() + ",\"o\":" + (o == null ? -1 : o.offset())));
                    } catch (KafkaException e) {
                        trouble("committed", e);
                    }
                }

                @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    commit(c, topic, named, handled);
                }

                @Override public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    handled.clear();
                }
            });
            long last = System.nanoTime();
            while (!stopping) {
                try {
                    handled.putAll(note("deliver", named, c.poll(Duration.ofMillis(100))));
                } catch (KafkaException e) {
                    trouble("poll", e);
                }
                if (System.nanoTime() - last > 500_000_000L) {
                    commit(c, topic, named, handled);
                    last = System.nanoTime();
                }
            }
            commit(c, topic, named, handled);
        }
    }

    private void commit(KafkaConsumer<byte[], byte[]> c, String topic, String named, Map<Integer, Long> handled) {
        if (handled.isEmpty()) return;
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        StringBuilder rows = new StringBuilder();
        handled.forEach((p, o) -> {
            offsets.put(new TopicPartition(topic, p), new OffsetAndMetadata(o));
            rows.append(rows.length() == 0 ? "" : ",").append('[').append(p).append(',').append(o).append(']');
        });
        handled.clear();
        long since = System.nanoTime();
        String outcome = "ok";
        try {
            c.commitSync(offsets, Duration.ofSeconds(20));
        } catch (KafkaException e) {
            // The client tries by itself: an error at its last try says nothing of the ones before.
            outcome = "unknown";
            trouble("commit", e);
        }
        write("commit", named + "\"since\":" + since + ",\"offsets\":[" + rows + "],\"outcome\":\"" + outcome + "\"");
    }
}
