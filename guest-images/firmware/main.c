/*
 * Firmware for an emulated Cortex-M3 that serves rpmsg to a host: the kind of remote core that a board has, with a
 * resource table, vrings and interrupts of its own, and nothing in common with the software core but what both speak.
 *
 * | file | what is in it |
 * |---|---|
 * | link.ld | where everything lies |
 * | board.h | registers, barriers, interrupts |
 * | startup.c | vectors, from reset to main(), faults |
 * | doorbell.c | the UART whose bytes are doorbells |
 * | text.c | memcpy() and memset(), text, the trace buffer |
 * | table.c | the resource table |
 * | vring.c | the device's side of a vring |
 * | rpmsg.c | the link: messages, name service |
 * | services.c | what the endpoints do |
 *
 * A driver is waited for by looking at the vdev status every millisecond, as firmware does; while it serves one, the core
 * sleeps until the doorbell rings.
 */
#include "board.h"
#include "doorbell.h"
#include "rpmsg.h"
#include "text.h"

/* The host wants no more of this boot. */
static void __attribute__((noreturn)) shut_down(void)
{
	rpmsg_end();
	trace_begin("shut down by the host");
	trace_end();
	doorbell_ring(BELL_SHUTDOWN_DONE);
	for (;;) {
		doorbell_sleep();
		doorbell_take();
	}
}

static void answer_doorbell(void)
{
	uint32_t heard = doorbell_take();

	if (heard & HEARD_SHUT_DOWN)
		shut_down();
	if (heard & HEARD_ECHO_REQUEST)
		doorbell_ring(BELL_ECHO_REPLY);
	if (heard & HEARD_STATE)
		doorbell_ring(BELL_RUNNING);
}

int main(void)
{
	trace_begin("ready, waiting for a host");
	trace_end();
	doorbell_start();
	doorbell_ring(BELL_READY);
	for (;;) {
		answer_doorbell();
		rpmsg_look();
		if (rpmsg_serve())
			continue;
		if (!rpmsg_is_up())
			tick_start();
		doorbell_sleep();
	}
}
