/*
 * From reset to main(), and what is done when the core faults.
 */
#include <stdint.h>

#include "board.h"
#include "doorbell.h"
#include "text.h"

int main(void);

extern uint32_t table_start[], table_end[], table_image[];
extern uint32_t data_start[], data_end[], data_image[];
extern uint32_t bss_start[], bss_end[];
extern uint32_t own_start[], own_end[];
extern uint32_t trace_buffer_start[], trace_buffer_end[];
extern uint32_t stack_top[];

static void copy(uint32_t *to, const uint32_t *end, const uint32_t *from)
{
	while (to < end)
		*to++ = *from++;
}

static void clear(uint32_t *from, const uint32_t *end)
{
	while (from < end)
		*from++ = 0;
}

/* Not static: the linker script names it as the entry. */
void reset(void)
{
	copy(data_start, data_end, data_image);
	clear(bss_start, bss_end);
	clear(own_start, own_end);
	clear(trace_buffer_start, trace_buffer_end);
	copy(table_start, table_end, table_image);
	main();
}

/* What the processor has pushed before it entered the handler. */
struct frame {
	uint32_t r0, r1, r2, r3, r12, lr, pc, xpsr;
};

/* Says so and stands still: only a reset brings the core back. */
static void __attribute__((used, noreturn)) report_fault(const struct frame *frame)
{
	trace_begin("fault at ");
	trace_hex(frame->pc);
	trace_end();
	doorbell_ring_last(BELL_CRASHED);
	interrupts_off();
	for (;;)
		wait_for_interrupt();
}

static void __attribute__((naked)) fault(void)
{
	__asm volatile("mrs r0, msp\n\tb report_fault");
}

/* SysTick wakes the main loop, once each time it is started. */
static void tick(void)
{
	tick_stop();
}

#define VECTORS (16 + UART_TX_LINE + 1)

typedef void (*handler)(void);

static const handler vectors[VECTORS] __attribute__((used, section(".vectors"))) = {
	[0] = (handler)stack_top,
	[1] = reset,
	[2] = fault, /* NMI */
	[3] = fault, /* hard fault, to which the others escalate: they are not enabled */
	[15] = tick,
	[16 + UART_RX_LINE] = doorbell_received,
	[16 + UART_TX_LINE] = doorbell_sent,
};
