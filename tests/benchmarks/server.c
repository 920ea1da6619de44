/* The Flows API for benchmarks: one thread, epoll, loopback only, so cheap that the client is the bottleneck.

   In: HTTP/1.1 requests with Content-Length; bodies are counted and thrown away, except the last 4 KiB, where an
   input's `additional` is found. Out: the replies of flows-api.md, and figures on `GET /stats` and `GET /timeline`.
   Compiled and started by harness/server.py; --help lists the options.

   What it checks, because a fast client that sends the wrong thing is not fast: a body shorter or longer than its
   Content-Length is a `mismatch`, an input that is not {"data": "...", "additional": ...} is a `bad_input`.
   Requests are never pipelined by the clients measured here; bytes beyond a body are therefore an error.

   What it leaves out: listings are one page and unfiltered, data and outputs are not kept, keys are not looked at. */

#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_MAX = 16 << 10,  /* request line and headers */
    LEAD_MAX = 64,        /* first bytes of a body: enough for `{"data": "` */
    TAIL_MAX = 4 << 10,   /* last bytes of a body: `additional` must fit in */
    READ_MAX = 1 << 20,   /* bytes per read */
    KEEP_MAX = 16 << 20,  /* a larger reply buffer is given back after use */
    EVENTS_MAX = 256,
    BUCKET_MS = 100,
    BUCKETS_MAX = 36000,  /* an hour */
    MOVES_MAX = 1000,
};

typedef struct { char *at; size_t len, cap; } Text;
typedef struct { const char *at; size_t len; } Span;

/* Kinds of request; the order is the order in /stats. */
enum Kind {
    TEMPLATES, CREATE, LIST_FLOWS, GET_FLOW, UPLOAD, LIST_INPUTS, START, DELETE, UNKNOWN,
    API_KINDS,
    STATS = API_KINDS, TIMELINE, CAPACITY, RESET, QUIT,
};
static const char *const KIND_NAMES[API_KINDS] = {
    "templates", "create", "list_flows", "get_flow", "upload", "list_inputs", "start", "delete", "unknown",
};

typedef struct {
    enum { CREATED, RUNNING, DELETED } state;
    char *template, *additional;  /* raw JSON, as they came */
    Text inputs;                  /* the listing's entries, ready to send, each with a comma before it */
} Flow;

typedef struct Conn Conn;
struct Conn {
    int fd;  /* -1: closed, freed after this round of events */
    enum { HEAD, BODY, SERVING, REPLYING } phase;
    bool gone;     /* the client left while SERVING: commit, as a service would, and drop the reply */
    bool closing;  /* close after the reply */
    enum Kind kind;
    unsigned epoch;       /* of the world that the request came to */
    unsigned seen;        /* the epoch in which the connection was counted */
    uint64_t flow_id;     /* 0: none in the path */
    int64_t due_ns;
    Conn *next;           /* in `serving`, `waiting` or `doomed` */
    size_t head_len, want, got, lead_len, tail_len, sent;
    Text out;             /* what of the reply did not fit into the socket */
    char head[HEAD_MAX + 1], lead[LEAD_MAX], tail[2 * TAIL_MAX];
};

typedef struct { Conn *first, *last; } Queue;

static struct {
    int port;
    int64_t latency_ns;
    double p503;
    uint64_t seed;
    int capacity;  /* requests served at a time; 0: no bound */
    bool queues;   /* beyond capacity: wait (true) or get 503 (false) */
} option = {.seed = 1};

static struct {
    Flow *flows;  /* flow N is flows[N - 1] */
    size_t count, cap;
    uint64_t inputs;
} world;

static struct {
    uint64_t requests[API_KINDS], accepted[API_KINDS], refused, rejected;
    uint64_t mismatches, bad_inputs, double_starts, connections;
    uint64_t body_bytes, data_bytes;  /* all bodies; the `data` strings of accepted inputs */
    int in_flight, max_in_flight;
    int open_flows, max_open_flows;  /* created, and neither started nor deleted */
    int64_t first_ns, first_upload_ns, first_start_ns, last_ns;
    double cpu_before_s;  /* the server's own, spent before the last reset */
} stats;

static struct { uint32_t arrived, accepted, refused; uint64_t bytes; } timeline[BUCKETS_MAX];
static struct { int64_t at_ns; int capacity; } moves[MOVES_MAX];
static size_t buckets, moves_len;

static int epoll_fd, timer_fd, listen_fd;
static int in_service;
static unsigned epoch;
static uint64_t chance_state;
static bool quitting;
static Queue serving;  /* by due time: the latency is one constant, so first in is first out */
static Queue waiting;
static Conn *doomed;
static Text page;      /* the body of the reply under way */
static char scratch[READ_MAX];

/* ---- small tools ---- */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void text_reserve(Text *text, size_t more) {
    if (text->len + more <= text->cap) return;
    text->cap = (text->len + more) + (text->len + more) / 2;
    text->at = realloc(text->at, text->cap);
    if (!text->at) die("memory");
}

static void text_add(Text *text, const char *from, size_t len) {
    text_reserve(text, len);
    memcpy(text->at + text->len, from, len);
    text->len += len;
}

__attribute__((format(printf, 2, 3))) static void text_print(Text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t len = (size_t)vsnprintf(NULL, 0, format, args);
    text_reserve(text, len + 1);
    vsnprintf(text->at + text->len, len + 1, format, again);
    text->len += len;
    va_end(args);
    va_end(again);
}

static void text_clear(Text *text) {
    text->len = 0;
    if (text->cap <= KEEP_MAX) return;
    free(text->at);
    *text = (Text){0};
}

static void push(Queue *queue, Conn *conn) {
    conn->next = NULL;
    if (queue->last) queue->last->next = conn;
    else queue->first = conn;
    queue->last = conn;
}

static Conn *pop(Queue *queue) {
    Conn *conn = queue->first;
    queue->first = conn->next;
    if (!queue->first) queue->last = NULL;
    return conn;
}

/* A number in [0, 1); xorshift64*, seeded again by every /reset, so that each run meets the same sequence. */
static double chance(void) {
    chance_state ^= chance_state >> 12;
    chance_state ^= chance_state << 25;
    chance_state ^= chance_state >> 27;
    return (double)((chance_state * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

/* ---- the little JSON that is needed: the raw text of one member ---- */

static const char *skip_space(const char *at, const char *end) {
    while (at < end && strchr(" \t\r\n", *at) && *at) at++;
    return at;
}

/* The end of the value that begins at `at`, or NULL if it is not complete. */
static const char *value_end(const char *at, const char *end) {
    int depth = 0;
    for (bool quoted = false; at < end; at++) {
        if (quoted) {
            if (*at == '\\') at++;
            else if (*at == '"') quoted = false;
        } else if (*at == '"') {
            quoted = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (depth-- == 0) return at;  /* the end of the object around it */
        } else if (*at == ',' && depth == 0) {
            return at;
        }
    }
    return NULL;
}

/* The value of the first member called `name` ("\"name\""), or an empty span. */
static Span member(const char *text, size_t len, const char *name) {
    const char *end = text + len, *at = memmem(text, len, name, strlen(name));
    if (!at) return (Span){0};
    at = skip_space(at + strlen(name), end);
    if (at == end || *at != ':') return (Span){0};
    at = skip_space(at + 1, end);
    const char *last = value_end(at, end);
    if (!last) return (Span){0};
    while (last > at && strchr(" \t\r\n", last[-1])) last--;
    return (Span){at, (size_t)(last - at)};
}

static char *member_copy(const Conn *conn, const char *name) {
    Span value = member(conn->tail, conn->tail_len, name);
    return value.len ? strndup(value.at, value.len) : strdup("null");
}

/* An input's `additional`, and the length of its `data` string: {"data": "...", "additional": ...}, data first. */
static bool read_input(const Conn *conn, Span *additional, size_t *data_len) {
    const char *lead_end = conn->lead + conn->lead_len, *tail_end = conn->tail + conn->tail_len;
    const char *open = memmem(conn->lead, conn->lead_len, "\"data\"", 6);
    if (!open) return false;
    open = skip_space(open + 6, lead_end);
    if (open == lead_end || *open != ':') return false;
    open = skip_space(open + 1, lead_end);
    if (open == lead_end || *open != '"') return false;

    *additional = member(conn->tail, conn->tail_len, "\"additional\"");
    const char *close = memmem(conn->tail, conn->tail_len, "\"additional\"", 12);
    if (!close) close = memrchr(conn->tail, '}', conn->tail_len);
    else if (!additional->len) return false;
    if (!close || tail_end[-1] != '}') return false;
    while (close > conn->tail && strchr(" \t\r\n,", close[-1])) close--;
    if (close == conn->tail || close[-1] != '"') return false;

    size_t opens_at = (size_t)(open - conn->lead) + 1;
    size_t closes_at = conn->got - (size_t)(tail_end - close) - 1;
    if (closes_at < opens_at) return false;
    *data_len = closes_at - opens_at;
    if (!additional->len) *additional = (Span){"null", 4};
    return true;
}

/* ---- figures ---- */

static size_t bucket(int64_t at_ns) {
    size_t n = (size_t)((at_ns - stats.first_ns) / (BUCKET_MS * 1000000LL));
    if (n >= BUCKETS_MAX) n = BUCKETS_MAX - 1;
    if (n >= buckets) buckets = n + 1;
    return n;
}

static void note_arrival(Conn *conn) {
    int64_t now = now_ns();
    if (!stats.first_ns) stats.first_ns = now;
    if (conn->kind == UPLOAD && !stats.first_upload_ns) stats.first_upload_ns = now;
    if (conn->seen != epoch) stats.connections++;  /* the harness's own connections do not count */
    conn->seen = epoch;
    stats.requests[conn->kind]++;
    if (++stats.in_flight > stats.max_in_flight) stats.max_in_flight = stats.in_flight;
    timeline[bucket(now)].arrived++;
}

static void note_bytes(Conn *conn, size_t len) {
    conn->got += len;
    if (conn->kind >= API_KINDS || conn->epoch != epoch) return;
    stats.body_bytes += len;
    timeline[bucket(now_ns())].bytes += len;
}

static void note_answer(Conn *conn, int status) {
    if (conn->kind >= API_KINDS || conn->epoch != epoch) return;
    stats.in_flight--;
    stats.last_ns = now_ns();
    size_t n = bucket(stats.last_ns);
    if (status == 503) stats.refused++, timeline[n].refused++;
    else if (status >= 400) stats.rejected++;
    else stats.accepted[conn->kind]++, timeline[n].accepted++;
}

static double cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print_stats(void) {
    uint64_t requests = 0;
    text_print(&page, "{\"by_kind\":{");
    for (int kind = 0; kind < API_KINDS; kind++) {
        requests += stats.requests[kind];
        text_print(&page, "%s\"%s\":%lu", kind ? "," : "", KIND_NAMES[kind], stats.requests[kind]);
    }
    text_print(&page, "},\"accepted\":{");
    for (int kind = 0; kind < API_KINDS; kind++)
        text_print(&page, "%s\"%s\":%lu", kind ? "," : "", KIND_NAMES[kind], stats.accepted[kind]);
    text_print(&page, "},\"requests\":%lu,\"refused\":%lu,\"rejected\":%lu,\"mismatches\":%lu,\"bad_inputs\":%lu,",
               requests, stats.refused, stats.rejected, stats.mismatches, stats.bad_inputs);
    text_print(&page, "\"double_starts\":%lu,\"connections\":%lu,\"body_bytes\":%lu,\"data_bytes\":%lu,",
               stats.double_starts, stats.connections, stats.body_bytes, stats.data_bytes);
    text_print(&page, "\"in_flight\":%d,\"max_in_flight\":%d,\"max_open_flows\":%d,\"cpu_s\":%.6f,", stats.in_flight,
               stats.max_in_flight, stats.max_open_flows, cpu_s() - stats.cpu_before_s);
    /* Clock: CLOCK_MONOTONIC, the one of Python's time.monotonic(); 0 is "not yet". */
    text_print(&page, "\"first_request_s\":%.6f,\"first_upload_s\":%.6f,\"first_start_s\":%.6f,\"last_reply_s\":%.6f}",
               (double)stats.first_ns / 1e9, (double)stats.first_upload_ns / 1e9, (double)stats.first_start_ns / 1e9,
               (double)stats.last_ns / 1e9);
}

/* Buckets and moves count from the first request since the last reset. */
static void print_timeline(void) {
    text_print(&page, "{\"bucket_ms\":%d,\"moves\":[", BUCKET_MS);
    for (size_t n = 0; n < moves_len; n++)
        text_print(&page, "%s[%.6f,%d]", n ? "," : "", (double)(moves[n].at_ns - stats.first_ns) / 1e9,
                   moves[n].capacity);
#define SERIES(name, field)                                                                   \
    text_print(&page, "],\"" name "\":[");                                                    \
    for (size_t n = 0; n < buckets; n++) text_print(&page, "%s%lu", n ? "," : "", (uint64_t)timeline[n].field)
    SERIES("arrived", arrived);
    SERIES("accepted", accepted);
    SERIES("refused", refused);
    SERIES("bytes", bytes);
#undef SERIES
    text_print(&page, "]}");
}

static void reset(void) {
    for (size_t n = 0; n < world.count; n++) {
        free(world.flows[n].template);
        free(world.flows[n].additional);
        free(world.flows[n].inputs.at);
    }
    world.count = world.inputs = 0;
    memset(&stats, 0, sizeof stats);
    stats.cpu_before_s = cpu_s();
    memset(timeline, 0, buckets * sizeof timeline[0]);
    buckets = moves_len = 0;
    chance_state = option.seed * 0x9E3779B97F4A7C15ULL + 1;
    epoch++;  /* what is still in service came to the old world and changes nothing in the new one */
}

/* ---- replies ---- */

static void watch(Conn *conn, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = conn};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
}

static void drop(Conn *conn) {
    if (conn->fd < 0) return;
    close(conn->fd);
    conn->fd = -1;
    conn->next = doomed;
    doomed = conn;
}

static void next_request(Conn *conn) {
    if (conn->closing) {
        drop(conn);
        return;
    }
    conn->phase = HEAD;
    conn->head_len = conn->want = conn->got = conn->lead_len = conn->tail_len = 0;
}

/* Sends the status and `page`; what the socket does not take at once is kept and sent when it is ready. */
static void reply(Conn *conn, int status) {
    note_answer(conn, status);
    if (conn->gone) {
        drop(conn);
    } else {
        char head[128];
        int head_len = snprintf(head, sizeof head,
                                "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                                status, status < 400 ? "OK" : "Refused", page.len);
        struct iovec parts[] = {{head, (size_t)head_len}, {page.at, page.len}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        size_t total = (size_t)head_len + page.len;
        ssize_t sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) sent = 0;
        if (sent < 0) {
            drop(conn);
        } else if ((size_t)sent == total) {
            next_request(conn);
        } else {
            text_add(&conn->out, head, (size_t)head_len);
            text_add(&conn->out, page.at, page.len);
            conn->sent = (size_t)sent;
            conn->phase = REPLYING;
            watch(conn, EPOLLOUT);
        }
    }
    text_clear(&page);
}

static void on_writable(Conn *conn) {
    ssize_t sent = send(conn->fd, conn->out.at + conn->sent, conn->out.len - conn->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
        drop(conn);
        return;
    }
    conn->sent += (size_t)sent;
    if (conn->sent < conn->out.len) return;
    text_clear(&conn->out);
    watch(conn, EPOLLIN);
    next_request(conn);
}

static void reject(Conn *conn, int status, const char *why) {
    text_clear(&page);
    text_print(&page, "{\"detail\":\"%s\"}", why);
    reply(conn, status);
}

/* A request that cannot be read: the connection is of no further use. */
static void reject_malformed(Conn *conn, int status, const char *why) {
    stats.mismatches++;
    conn->closing = true;
    reject(conn, status, why);
}

/* ---- the Flows API ---- */

static void print_flow(uint64_t id, const Flow *flow) {
    text_print(&page,
               "{\"flow_id\":\"%024lx\",\"template\":%s,\"state\":\"%s\",\"progress\":0.0,"
               "\"created_at\":\"2025-01-01T00:00:00Z\",\"started_at\":null,\"finished_at\":null,"
               "\"parameters\":{},\"additional\":%s}",
               id, flow->template, flow->state == RUNNING ? "running" : "created", flow->additional);
}

static void create_flow(Conn *conn) {
    if (world.count == world.cap) {
        world.cap = world.cap ? 2 * world.cap : 1024;
        world.flows = realloc(world.flows, world.cap * sizeof *world.flows);
        if (!world.flows) die("memory");
    }
    Flow *flow = &world.flows[world.count++];
    *flow = (Flow){.template = member_copy(conn, "\"template\""), .additional = member_copy(conn, "\"additional\"")};
    if (++stats.open_flows > stats.max_open_flows) stats.max_open_flows = stats.open_flows;
    print_flow(world.count, flow);
    reply(conn, 200);
}

static void list_flows(Conn *conn) {
    text_print(&page, "{\"flows\":[");
    bool first = true;
    for (size_t n = 0; n < world.count; n++) {
        if (world.flows[n].state == DELETED) continue;
        if (!first) text_add(&page, ",", 1);
        print_flow(n + 1, &world.flows[n]);
        first = false;
    }
    text_print(&page, "]}");
    reply(conn, 200);
}

static void add_input(Conn *conn, Flow *flow) {
    Span additional;
    size_t data_len;
    if (flow->state != CREATED) {
        reject(conn, 409, "the flow does not take inputs any more");
    } else if (!read_input(conn, &additional, &data_len)) {
        stats.bad_inputs++;
        reject(conn, 422, "not an input");
    } else {
        text_print(&flow->inputs, ",{\"id\":\"%024lx\",\"status\":\"available\",\"processed\":true,\"additional\":%.*s}",
                   ++world.inputs, (int)additional.len, additional.at);
        stats.data_bytes += data_len;
        text_print(&page, "{\"id\":\"%024lx\"}", world.inputs);
        reply(conn, 200);
    }
}

static void list_inputs(Conn *conn, const Flow *flow) {
    text_print(&page, "{\"flow_id\":\"%024lx\",\"inputs\":[", conn->flow_id);
    if (flow->inputs.len) text_add(&page, flow->inputs.at + 1, flow->inputs.len - 1);
    text_print(&page, "]}");
    reply(conn, 200);
}

static void start_flow(Conn *conn, Flow *flow) {
    Span action = member(conn->tail, conn->tail_len, "\"action\"");
    if (action.len != 7 || memcmp(action.at, "\"start\"", 7) != 0) {
        reject(conn, 422, "this server only starts");
    } else if (flow->state == RUNNING) {
        stats.double_starts++;
        reject(conn, 409, "started already");
    } else {
        flow->state = RUNNING;
        stats.open_flows--;
        if (!stats.first_start_ns) stats.first_start_ns = now_ns();
        print_flow(conn->flow_id, flow);
        reply(conn, 200);
    }
}

static void delete_flow(Conn *conn, Flow *flow) {
    if (flow->state != CREATED) {
        reject(conn, 409, "started already");
    } else {
        flow->state = DELETED;
        stats.open_flows--;
        text_print(&page, "{}");
        reply(conn, 200);
    }
}

static void handle(Conn *conn) {
    Flow *flow = NULL;
    if (conn->flow_id && conn->flow_id <= world.count && world.flows[conn->flow_id - 1].state != DELETED)
        flow = &world.flows[conn->flow_id - 1];
    if (conn->flow_id && !flow) {
        reject(conn, 404, "no such flow");
        return;
    }
    switch (conn->kind) {
    case TEMPLATES:
        text_print(&page, "{\"templates\":[{\"name\":\"model_generate_fromimage\",\"input_types\":"
                          "[\"image/png\",\"image/jpeg\",\"image/tiff\",\"image/webp\"]}]}");
        reply(conn, 200);
        break;
    case CREATE: create_flow(conn); break;
    case LIST_FLOWS: list_flows(conn); break;
    case GET_FLOW:
        print_flow(conn->flow_id, flow);
        reply(conn, 200);
        break;
    case UPLOAD: add_input(conn, flow); break;
    case LIST_INPUTS: list_inputs(conn, flow); break;
    case START: start_flow(conn, flow); break;
    case DELETE: delete_flow(conn, flow); break;
    default: reject(conn, 404, "no such call");
    }
}

/* ---- time: latency, capacity, chance ---- */

static void finish(Conn *conn) {
    in_service--;
    if (conn->epoch != epoch || (option.p503 > 0 && chance() < option.p503)) reject(conn, 503, "unavailable");
    else handle(conn);
}

static void serve(Conn *conn) {
    in_service++;
    if (!option.latency_ns) {
        finish(conn);
        return;
    }
    conn->due_ns = now_ns() + option.latency_ns;
    push(&serving, conn);
}

static void serve_waiting(void) {
    while (waiting.first && (!option.capacity || in_service < option.capacity)) serve(pop(&waiting));
}

static void set_timer(void) {
    static int64_t set_ns;
    int64_t due_ns = serving.first ? serving.first->due_ns : 0;
    if (due_ns == set_ns) return;
    struct itimerspec timer = {.it_value = {due_ns / 1000000000, due_ns % 1000000000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
    set_ns = due_ns;
}

static void on_timer(void) {
    uint64_t expirations;
    if (read(timer_fd, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timer");
    int64_t now = now_ns();
    while (serving.first && serving.first->due_ns <= now) finish(pop(&serving));
    serve_waiting();
}

static void set_capacity(const char *path) {
    const char *n = strstr(path, "n="), *mode = strstr(path, "mode=");
    if (n) option.capacity = atoi(n + 2);
    if (mode) option.queues = strncmp(mode + 5, "queue", 5) == 0;
    if (moves_len < MOVES_MAX) {
        moves[moves_len].at_ns = now_ns();
        moves[moves_len++].capacity = option.capacity;
    }
    serve_waiting();
}

/* A request whose body is complete. */
static void admit(Conn *conn) {
    conn->phase = SERVING;
    switch (conn->kind) {
    case STATS: print_stats(); reply(conn, 200); break;
    case TIMELINE: print_timeline(); reply(conn, 200); break;
    case CAPACITY: set_capacity(conn->head); reply(conn, 200); break;
    case RESET: reset(); reply(conn, 200); break;
    case QUIT: quitting = true; reply(conn, 200); break;
    default:
        if (!option.capacity || in_service < option.capacity) serve(conn);
        else if (option.queues) push(&waiting, conn);
        else reject(conn, 503, "over capacity");
    }
}

/* ---- requests ---- */

static enum Kind route(Conn *conn, const char *method, const char *path) {
    bool get = !strcmp(method, "GET"), post = !strcmp(method, "POST");
    size_t len = strcspn(path, "?");
#define IS(text) (len == strlen(text) && !strncmp(path, text, len))
    if (IS("/flows")) return post ? CREATE : get ? LIST_FLOWS : UNKNOWN;
    if (IS("/templates")) return get ? TEMPLATES : UNKNOWN;
    if (IS("/stats")) return STATS;
    if (IS("/timeline")) return TIMELINE;
    if (IS("/capacity")) return CAPACITY;
    if (IS("/reset")) return RESET;
    if (IS("/quit")) return QUIT;
    if (strncmp(path, "/flows/", 7)) return UNKNOWN;
    char *rest;
    conn->flow_id = strtoull(path + 7, &rest, 16);
    if (rest != path + 7 + 24) return UNKNOWN;
    path = rest, len = strcspn(path, "?");
    if (IS("")) {
        return get ? GET_FLOW : !strcmp(method, "PATCH") ? START : !strcmp(method, "DELETE") ? DELETE : UNKNOWN;
    }
    if (IS("/inputs")) return post ? UPLOAD : get ? LIST_INPUTS : UNKNOWN;
#undef IS
    return UNKNOWN;
}

static const char *header(const Conn *conn, const char *name) {
    const char *at = strcasestr(conn->head, name);
    return at ? at + strlen(name) : NULL;
}

/* The head is complete in conn->head: what is asked, and how long is the body? */
static void begin_body(Conn *conn) {
    char method[8], path[1024], version[4];
    conn->flow_id = 0;
    conn->kind = UNKNOWN;
    conn->epoch = epoch;
    conn->phase = BODY;
    if (sscanf(conn->head, "%7[A-Z] %1023[^ \r] HTTP/1.%1[01]\r", method, path, version) == 3)
        conn->kind = route(conn, method, path);
    else
        conn->closing = true;  /* most likely the rest of a body that was longer than announced */
    if (conn->kind < API_KINDS) note_arrival(conn);
    if (conn->closing) {
        reject_malformed(conn, 400, "not a request");
        return;
    }
    const char *length = header(conn, "\r\nContent-Length:"), *close_text = header(conn, "\r\nConnection: close");
    conn->closing = close_text != NULL;
    conn->want = length ? strtoull(length, NULL, 10) : 0;
    if (header(conn, "\r\nTransfer-Encoding:")) reject_malformed(conn, 411, "Content-Length is required");
    else if (conn->want == 0) admit(conn);
    else if (header(conn, "\r\nExpect: 100-continue")) send(conn->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
}

/* Both take what they need of [at, end) and return where they stopped. */
static const char *take_head(Conn *conn, const char *at, const char *end) {
    size_t len = (size_t)(end - at), known = conn->head_len;
    if (len > HEAD_MAX - known) len = HEAD_MAX - known;
    memcpy(conn->head + known, at, len);
    size_t from = known > 3 ? known - 3 : 0;  /* the end of the head may be split across reads */
    const char *blank = memmem(conn->head + from, known + len - from, "\r\n\r\n", 4);
    if (!blank) {
        conn->head_len += len;
        if (conn->head_len == HEAD_MAX) reject_malformed(conn, 431, "head too long");
        return at + len;
    }
    conn->head_len = (size_t)(blank - conn->head) + 4;
    conn->head[conn->head_len] = 0;
    begin_body(conn);
    return at + (blank - conn->head) + 4 - known;
}

static void keep_tail(Conn *conn, const char *at, size_t len) {
    if (len >= TAIL_MAX) {
        at += len - TAIL_MAX;
        len = TAIL_MAX;
        conn->tail_len = 0;
    } else if (conn->tail_len + len > sizeof conn->tail) {
        memmove(conn->tail, conn->tail + conn->tail_len - TAIL_MAX, TAIL_MAX);
        conn->tail_len = TAIL_MAX;
    }
    memcpy(conn->tail + conn->tail_len, at, len);
    conn->tail_len += len;
}

static const char *take_body(Conn *conn, const char *at, const char *end) {
    size_t len = (size_t)(end - at), lead = LEAD_MAX - conn->lead_len;
    if (len > conn->want - conn->got) len = conn->want - conn->got;
    if (lead > len) lead = len;
    memcpy(conn->lead + conn->lead_len, at, lead);
    conn->lead_len += lead;
    keep_tail(conn, at, len);
    note_bytes(conn, len);
    if (conn->got < conn->want) return at + len;
    if (at + len < end) {
        reject_malformed(conn, 400, "the body is longer than Content-Length");
        return end;
    }
    admit(conn);
    return end;
}

static void on_readable(Conn *conn) {
    size_t most = sizeof scratch;
    int flags = 0;
    if (conn->phase == BODY && conn->lead_len == LEAD_MAX && conn->want - conn->got > TAIL_MAX) {
        /* The middle of a body is of no interest: the kernel throws it away without copying (see tcp(7)). */
        if (most > conn->want - conn->got - TAIL_MAX) most = conn->want - conn->got - TAIL_MAX;
        flags = MSG_TRUNC;
    }
    ssize_t len = recv(conn->fd, scratch, most, flags);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (len <= 0) {  /* the client has left */
        if (conn->phase == SERVING) {
            conn->gone = true;
            epoll_ctl(epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
            return;
        }
        if (conn->phase == BODY || conn->head_len) stats.mismatches++;  /* in the middle of a request */
        if (conn->phase == BODY && conn->kind < API_KINDS && conn->epoch == epoch) stats.in_flight--;
        drop(conn);
        return;
    }
    if (flags) {
        conn->tail_len = 0;
        note_bytes(conn, (size_t)len);
        return;
    }
    for (const char *at = scratch, *end = scratch + len; at < end && conn->fd >= 0;) {
        if (conn->phase == HEAD) {
            at = take_head(conn, at, end);
        } else if (conn->phase == BODY) {
            at = take_body(conn, at, end);
        } else {  /* more than was announced, while the reply is still being made */
            stats.mismatches++;
            conn->closing = true;
            at = end;
        }
    }
}

/* ---- the loop ---- */

static void on_connect(void) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Conn *conn = calloc(1, sizeof *conn);
    if (!conn) die("memory");
    conn->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll");
}

static void bury(void) {
    while (doomed) {
        Conn *conn = doomed;
        doomed = conn->next;
        free(conn->out.at);
        free(conn);
    }
}

static void run(void) {
    struct epoll_event events[EVENTS_MAX];
    while (!quitting) {
        set_timer();
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) die("epoll");
        for (int n = 0; n < count; n++) {
            Conn *conn = events[n].data.ptr;
            if (events[n].data.ptr == &listen_fd) on_connect();
            else if (events[n].data.ptr == &timer_fd) on_timer();
            else if (conn->fd < 0) continue;
            else if (conn->phase == REPLYING) on_writable(conn);
            else on_readable(conn);
        }
        bury();
    }
}

static void listen_on_loopback(void) {
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listen_fd, (struct sockaddr *)&address, len) || listen(listen_fd, 4096)) die("listen");
    getsockname(listen_fd, (struct sockaddr *)&address, &len);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void watch_always(int *fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, *fd, &event)) die("epoll");
}

static void read_options(int argc, char **argv) {
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},     {"latency-ms", required_argument, NULL, 'l'},
        {"p503", required_argument, NULL, 'f'},     {"seed", required_argument, NULL, 's'},
        {"capacity", required_argument, NULL, 'c'}, {"mode", required_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},           {0},
    };
    for (int name; (name = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (name) {
        case 'p': option.port = atoi(optarg); break;
        case 'l': option.latency_ns = (int64_t)(atof(optarg) * 1e6); break;
        case 'f': option.p503 = atof(optarg); break;
        case 's': option.seed = strtoull(optarg, NULL, 10); break;
        case 'c': option.capacity = atoi(optarg); break;
        case 'm': option.queues = !strcmp(optarg, "queue"); break;
        default:
            fprintf(name == 'h' ? stdout : stderr,
                    "usage: server [--port N (0: any, printed)] [--latency-ms MS] [--p503 SHARE] [--seed N]\n"
                    "              [--capacity N] [--mode 503|queue]\n"
                    "control: GET /stats, GET /timeline, POST /capacity?n=N&mode=503|queue, POST /reset, POST /quit\n");
            exit(name == 'h' ? 0 : 2);
        }
    }
    if (option.capacity && !option.latency_ns) {
        fprintf(stderr, "--capacity needs --latency-ms: a request that takes no time occupies nothing\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);  /* never outlives the benchmark that started it */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_fd < 0 || timer_fd < 0) die("epoll");
    reset();
    listen_on_loopback();
    watch_always(&listen_fd);
    watch_always(&timer_fd);
    run();
    return 0;
}
