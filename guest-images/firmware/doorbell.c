/*
 * The UART's driver: both directions by interrupt.
 */
#include "doorbell.h"

#include <stdbool.h>

#include "board.h"

#define BYTES 256u

/* HEARD_ flags, which the main loop takes. */
static volatile uint32_t heard;
static volatile uint32_t unknown;

/* Bytes that wait for the UART, in their order, and which of them those are. Each waits once, so all find room. */
static uint8_t queue[BYTES];
static bool queued[BYTES];
static uint32_t first, count;

/*
 * For QEMU 11.1 and before: its model of the UART takes a byte only when QEMU's event loop turns, and that the UART has
 * become ready for one does not make it turn. A timer that expires does. Without, a byte that came too early, or close
 * behind another, would wait until something else happens, if anything ever does.
 */
static void have_qemu_look(void)
{
	tick_start();
}

void doorbell_start(void)
{
	UART_BAUDDIV = UART_BAUDDIV_MIN;
	UART_CTRL = UART_CTRL_ENABLE | UART_CTRL_INTERRUPTS;
	NVIC_ISER0 = 1u << UART_RX_LINE | 1u << UART_TX_LINE;
	have_qemu_look();
}

void doorbell_ring(uint32_t byte)
{
	interrupts_off();
	if (!queued[byte]) {
		queued[byte] = true;
		queue[(first + count++) % BYTES] = (uint8_t)byte;
		/* The handler alone writes to the UART: one place, one order. */
		NVIC_ISPR0 = 1u << UART_TX_LINE;
	}
	interrupts_on();
}

void doorbell_ring_last(uint32_t byte)
{
	interrupts_off();
	while (UART_STATE & UART_STATE_TX_FULL)
		;
	UART_DATA = byte;
}

uint32_t doorbell_take(void)
{
	interrupts_off();
	uint32_t taken = heard;
	heard = 0;
	interrupts_on();
	return taken;
}

uint32_t doorbell_unknown(void)
{
	return unknown;
}

void doorbell_sleep(void)
{
	interrupts_off();
	if (!heard)
		wait_for_interrupt();
	interrupts_on();
}

void doorbell_received(void)
{
	UART_INTCLEAR = UART_INT_RX;
	while (UART_STATE & UART_STATE_RX_FULL) {
		uint32_t byte = UART_DATA & 0xFF;

		if (byte < BELL_READY)
			heard |= HEARD_KICK;
		else if (byte == BELL_SHUT_DOWN)
			heard |= HEARD_SHUT_DOWN;
		else if (byte == BELL_ECHO_REQUEST)
			heard |= HEARD_ECHO_REQUEST;
		else if (byte == BELL_STATE)
			heard |= HEARD_STATE;
		else
			unknown++;
	}
	have_qemu_look();
}

void doorbell_sent(void)
{
	UART_INTCLEAR = UART_INT_TX;
	if (!count || UART_STATE & UART_STATE_TX_FULL)
		return;
	uint32_t byte = queue[first];
	queued[byte] = false;
	first = (first + 1) % BYTES;
	count--;
	UART_DATA = byte;
}
