/*
 * | name | what it does |
 * |---|---|
 * | rpmsg-client-sample, rpmsg-tty, rpmsg-raw, echo | sends each message back; the first three have drivers in Linux |
 * | sink | swallows messages, which begin with their number, and counts those out of order |
 * | source | sends as many as it is asked for: {count, size}, and 0 for the interval that it has not; the next request of the same asker takes the place of the one before |
 * | control | does what it is told: stats, hard-fault, hang, reset |
 *
 * Numbers are u32, little-endian. A message of the source begins with its own, from 0; the byte at place i is that + i.
 */
#include "services.h"

#include "board.h"
#include "doorbell.h"
#include "text.h"

enum { SAMPLE, TTY, RAW, ECHO, SINK, SOURCE, CONTROL, ENDPOINTS };

/* Senders whose numbers a sink follows, and askers that a source serves at a time. */
#define CLIENTS 64u

struct numbering {
	uint32_t src, next;
	bool in_use;
};

/* What somebody has asked a source for, and how much of it is done. */
struct request {
	uint32_t dst, count, size, sent;
};

/* Part of the memory that the host sees and is told to leave alone. */
static struct numbering numberings[CLIENTS] __attribute__((section(".own")));
static struct request requests[CLIENTS] __attribute__((section(".own")));

/* The request whose turn it is. */
static uint32_t turn;

static struct counters {
	uint32_t received, sent, disordered, refused;
} counters[ENDPOINTS];

static struct counters *counters_of(const struct endpoint *endpoint)
{
	return &counters[endpoint - endpoints];
}

static void answer(const struct endpoint *endpoint, uint32_t dst, const void *payload, size_t len)
{
	/* There is a buffer, or the message that is answered would not have been taken. */
	counters_of(endpoint)->sent += rpmsg_send(endpoint->address, dst, payload, len);
}

static void echo(const struct endpoint *endpoint, uint32_t src, const uint8_t *payload, size_t len)
{
	counters_of(endpoint)->received++;
	answer(endpoint, src, payload, len);
}

static void sink(const struct endpoint *endpoint, uint32_t src, const uint8_t *payload, size_t len)
{
	struct numbering *numbering = NULL;
	uint32_t number;

	counters_of(endpoint)->received++;
	if (len < sizeof(number)) {
		counters_of(endpoint)->refused++;
		return;
	}
	memcpy(&number, payload, sizeof(number));
	for (uint32_t i = 0; i < CLIENTS && !numbering; i++)
		if (!numberings[i].in_use || numberings[i].src == src)
			numbering = &numberings[i];
	if (!numbering) {
		counters_of(endpoint)->refused++;
		return;
	}
	/* A 0 begins anew. */
	if (number && number != numbering->next)
		counters_of(endpoint)->disordered++;
	*numbering = (struct numbering){ .src = src, .next = number + 1, .in_use = true };
}

static void source(const struct endpoint *endpoint, uint32_t src, const uint8_t *payload, size_t len)
{
	uint32_t words[3] = { 0 };
	struct request *request = NULL;

	counters_of(endpoint)->received++;
	memcpy(words, payload, len < sizeof(words) ? len : sizeof(words));
	for (uint32_t i = 0; i < CLIENTS; i++)
		if (requests[i].count && requests[i].dst == src)
			request = &requests[i];
	for (uint32_t i = 0; i < CLIENTS && !request; i++)
		if (!requests[i].count)
			request = &requests[i];
	if (len < 8 || words[1] < 4 || words[1] > MAX_PAYLOAD || words[2] || !request) {
		counters_of(endpoint)->refused++;
		return;
	}
	*request = (struct request){ .dst = src, .count = words[0], .size = words[1] };
}

bool services_send_next(void)
{
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct request *request = &requests[(turn + i) % CLIENTS];
		uint8_t payload[MAX_PAYLOAD];

		if (!request->count)
			continue;
		memcpy(payload, &request->sent, sizeof(request->sent));
		for (uint32_t place = sizeof(request->sent); place < request->size; place++)
			payload[place] = (uint8_t)(request->sent + place);
		if (!rpmsg_send(endpoints[SOURCE].address, request->dst, payload, request->size))
			return false;
		counters[SOURCE].sent++;
		if (++request->sent == request->count)
			request->count = 0;
		turn = (turn + i + 1) % CLIENTS;
		return true;
	}
	return false;
}

static void put_counter(struct text *text, const char *name, uint32_t value)
{
	put(text, name);
	put_decimal(text, value);
}

static void tell_stats(const struct endpoint *endpoint, uint32_t dst)
{
	char line[MAX_PAYLOAD];
	struct text text = { line, 0, sizeof(line) };

	put_counter(&text, "refused=", rpmsg_refused());
	put_counter(&text, " unknown_bells=", doorbell_unknown());
	for (uint32_t i = 0; i < ENDPOINTS; i++) {
		put(&text, " | ");
		put(&text, endpoints[i].name);
		put_counter(&text, " received=", counters[i].received);
		put_counter(&text, " sent=", counters[i].sent);
		if (i == SINK)
			put_counter(&text, " disordered=", counters[i].disordered);
		if (i == SINK || i == SOURCE)
			put_counter(&text, " refused=", counters[i].refused);
	}
	answer(endpoint, dst, line, text.len);
}

static void control(const struct endpoint *endpoint, uint32_t src, const uint8_t *payload, size_t len)
{
	static const char unknown[] = "unknown command; known are stats, hard-fault, hang, reset";

	counters_of(endpoint)->received++;
	if (is_word(payload, len, "stats")) {
		tell_stats(endpoint, src);
	} else if (is_word(payload, len, "hard-fault")) {
		trace_begin("a fault was asked for");
		trace_end();
		__asm volatile("udf #1");
	} else if (is_word(payload, len, "hang")) {
		trace_begin("told to hang");
		trace_end();
		interrupts_off();
		for (;;)
			;
	} else if (is_word(payload, len, "reset")) {
		barrier();
		AIRCR = AIRCR_SYSRESETREQ;
		for (;;)
			;
	} else {
		answer(endpoint, src, unknown, sizeof(unknown) - 1);
	}
}

/* Any addresses but 53, the name service's, would do. */
const struct endpoint endpoints[ENDPOINTS] = {
	[SAMPLE] = { "rpmsg-client-sample", 0x51, echo },
	[TTY] = { "rpmsg-tty", 0x7001, echo },
	[RAW] = { "rpmsg-raw", 0x100000, echo },
	[ECHO] = { "echo", 0x7FFFFFF0, echo },
	[SINK] = { "sink", 1, sink },
	[SOURCE] = { "source", 0x400, source },
	[CONTROL] = { "control", 0x7000, control },
};
const uint32_t endpoint_count = ENDPOINTS;

void services_reset(void)
{
	memset(numberings, 0, sizeof(numberings));
	memset(requests, 0, sizeof(requests));
	turn = 0;
}
