/*
 * The registers that the firmware touches: of the core (Armv7-M Architecture Reference Manual, chapter B3) and of the
 * second UART of the board (Arm DDI 0479, Cortex-M System Design Kit, "APB UART"; DAI 0385 for its place and its
 * interrupts).
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

/* SysTick, which counts the processor's clock down to zero, and again from its reload value. */
#define SYST_CSR REGISTER(0xE000E010)
#define SYST_RVR REGISTER(0xE000E014)
#define SYST_CVR REGISTER(0xE000E018)
#define SYST_CSR_ENABLE 1u
#define SYST_CSR_TICKINT 2u
#define SYST_CSR_CLKSOURCE 4u
#define CLOCK_HZ 25000000u

/* Interrupts of devices: enable, and set pending. */
#define NVIC_ISER0 REGISTER(0xE000E100)
#define NVIC_ISPR0 REGISTER(0xE000E200)

/* A write with this key requests a reset of the whole board. */
#define AIRCR REGISTER(0xE000ED0C)
#define AIRCR_SYSRESETREQ (0x05FA0000u | 4u)

/* The UART whose bytes are doorbells. */
#define UART_DATA REGISTER(0x40005000)
#define UART_STATE REGISTER(0x40005004)
#define UART_CTRL REGISTER(0x40005008)
#define UART_INTCLEAR REGISTER(0x4000500C)
#define UART_BAUDDIV REGISTER(0x40005010)
#define UART_STATE_TX_FULL 1u
#define UART_STATE_RX_FULL 2u
#define UART_CTRL_ENABLE 0x3u /* TX and RX */
#define UART_CTRL_INTERRUPTS 0xCu /* TX and RX */
#define UART_INT_TX 1u
#define UART_INT_RX 2u
#define UART_BAUDDIV_MIN 16u
#define UART_RX_LINE 2u
#define UART_TX_LINE 3u

/* The memory that the host sees. */
#define SHARED_START 0x21000000u
#define SHARED_SIZE 0x01000000u

/* Has SysTick interrupt in a millisecond, and again every millisecond until it is stopped. */
static inline void tick_start(void)
{
	SYST_CSR = 0;
	SYST_RVR = CLOCK_HZ / 1000 - 1;
	SYST_CVR = 0;
	SYST_CSR = SYST_CSR_ENABLE | SYST_CSR_TICKINT | SYST_CSR_CLKSOURCE;
}

static inline void tick_stop(void)
{
	SYST_CSR = 0;
}

/* Everything before it is seen by the host, and seen from it is everything that the host wrote before what was read. */
static inline void barrier(void)
{
	__asm volatile("dmb" ::: "memory");
}

static inline void interrupts_off(void)
{
	__asm volatile("cpsid i" ::: "memory");
}

static inline void interrupts_on(void)
{
	__asm volatile("cpsie i" ::: "memory");
}

/* Until an interrupt is pending, also where interrupts are off. */
static inline void wait_for_interrupt(void)
{
	__asm volatile("dsb\n\twfi" ::: "memory");
}

#endif
