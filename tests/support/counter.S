/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * counter - a guest of one page of code, for tests of what happens to a whole machine: it also runs
 * where KVM emulates, and boots in no time. Entered by PVH in 32-bit mode, paging off.
 *
 * It prints "start", then "count XXXXXXXX" on the first serial port, in hexadecimal, one more each time,
 * for ever.
 * Each round writes its number into one of 64 pages in turn, and reads what the round before wrote into
 * the page before; what is not as it was left is printed as "wrong". The counter itself is in memory.
 */
#define COUNTER 0x200000 /* the number of the round */
#define PAGES   0x300000 /* 64 of them */
#define DATA    0x3f8    /* the serial port's registers */
#define STATUS  0x3fd

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long _start

    .text
    .code32
    .globl _start
_start:
    mov $stack_top, %esp
    cld
    mov $started, %esi
    call print

round:
    mov COUNTER, %eax
    inc %eax
    mov %eax, COUNTER

    /* What the round before left. */
    mov %eax, %ebx
    dec %ebx
    jz write
    mov %ebx, %edi
    and $63, %edi
    shl $12, %edi
    cmp %ebx, PAGES(%edi)
    je write
    mov $wrong, %esi
    call print
write:
    mov COUNTER, %eax
    mov %eax, %edi
    and $63, %edi
    shl $12, %edi
    mov %eax, PAGES(%edi)

    mov $count, %esi
    call print
    mov COUNTER, %ebx
    mov $8, %ecx
digit:
    rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    movzbl digits(%eax), %eax
    call put
    dec %ecx
    jnz digit
    mov $'\n', %eax
    call put
    mov $5000, %ecx
delay:
    pause
    dec %ecx
    jnz delay
    jmp round

/* The string at ESI. */
print:
    lodsb
    test %al, %al
    jz printed
    call put
    jmp print
printed:
    ret

/* AL, when the port can take it. */
put:
    push %eax
    mov $STATUS, %edx
wait:
    in %dx, %al
    test $0x20, %al
    jz wait
    pop %eax
    mov $DATA, %edx
    out %al, %dx
    ret

digits:
    .ascii "0123456789abcdef"
started:
    .asciz "start\n"
count:
    .asciz "count "
wrong:
    .asciz "wrong\n"

    .bss
    .balign 16
    .skip 4096
stack_top:
    .section .note.GNU-stack, "", @progbits
