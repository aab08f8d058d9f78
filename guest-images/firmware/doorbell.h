/*
 * The doorbell: a UART, every byte of which means something (the project's README, "The socket link").
 *
 * Bells of one kind that come close together count as one, and so do those that wait to be rung: neither can overflow.
 */
#ifndef DOORBELL_H
#define DOORBELL_H

#include <stdint.h>

/* Bytes below are kicks: the vring with this notifyid has news. */
#define BELL_READY 0xF0u
#define BELL_CRASHED 0xF1u
#define BELL_SHUT_DOWN 0xF2u
#define BELL_SHUTDOWN_DONE 0xF3u
#define BELL_ECHO_REQUEST 0xF4u
#define BELL_ECHO_REPLY 0xF5u
#define BELL_STATE 0xF6u
#define BELL_RUNNING 0xF7u

/* What the host may have rung. */
#define HEARD_KICK 1u
#define HEARD_SHUT_DOWN 2u
#define HEARD_ECHO_REQUEST 4u
#define HEARD_STATE 8u

void doorbell_start(void);

/* Rings with this byte, as soon as the UART takes it. */
void doorbell_ring(uint32_t byte);

/* Rings with this byte without interrupts, instead of everything that waits; they stay off. */
void doorbell_ring_last(uint32_t byte);

/* What has been heard since this was last asked. */
uint32_t doorbell_take(void);

/* Bytes without a meaning that have been heard. */
uint32_t doorbell_unknown(void);

/* Sleeps until an interrupt, unless something has been heard that nobody has taken. */
void doorbell_sleep(void);

/* Handlers of the UART's interrupts. */
void doorbell_received(void);
void doorbell_sent(void);

#endif
