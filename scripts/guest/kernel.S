# The beginning of a kernel that is quickly unpacked (scripts/guest_kernel.py). A boot loader loads all of this to 1 MiB
# and calls it as Linux's 32-bit boot protocol says (boot_params in ESI). It unpacks the kernel to where it is to run and
# calls it as the 64-bit one says (boot_params in RSI).
#
# Given: KERNEL, the address where it runs; SIZE, the bytes that it takes there; the file kernel.lz4, without the zeros
# that it ends with, in LZ4's legacy format: after a magic number blocks, each with its length before it.

# A length, of which ECX has the beginning: the longest goes on in bytes, until one is not 255.
        .macro  length
        cmp     $15, %ecx
        jne     2f
1:      movzbl  (%rsi), %eax
        inc     %rsi
        add     %eax, %ecx
        cmp     $255, %eax
        je      1b
2:
        .endm

# Copy ECX bytes from RSI to RDI, which is not within 8 bytes after it, and some more, which are overwritten later.
# Without KVM, a boot with "rep movsb" in place of it takes more than a second longer.
        .macro  copy
        lea     (%rdi, %rcx), %r11
1:      mov     (%rsi), %rax
        mov     %rax, (%rdi)
        mov     8(%rsi), %rax
        mov     %rax, 8(%rdi)
        add     $16, %rsi
        add     $16, %rdi
        cmp     %r11, %rdi
        jb      1b
        sub     %r11, %rdi
        sub     %rdi, %rsi
        mov     %r11, %rdi
        .endm

        .code32
start:  lgdt    gdt_register
        mov     $level4, %eax
        mov     %eax, %cr3
        mov     %cr4, %eax
        bts     $5, %eax                # PAE
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx       # EFER
        rdmsr
        bts     $8, %eax                # long mode
        wrmsr
        mov     %cr0, %eax
        bts     $31, %eax               # paging
        mov     %eax, %cr0
        ljmp    $0x10, $long

        .code64
long:   mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %esi, %ebx
        mov     $kernel + 4, %esi
        mov     $KERNEL, %edi
block:  cmp     $kernel_end, %esi
        jae     zeros
        mov     (%rsi), %eax
        add     $4, %rsi
        lea     (%rsi, %rax), %r8       # where it ends
sequence:
        movzbl  (%rsi), %edx            # two lengths: of bytes as they are, and of what was there before
        inc     %rsi
        mov     %edx, %ecx
        shr     $4, %ecx
        length
        copy
        cmp     %r8, %rsi
        jae     block
        movzwl  (%rsi), %r9d            # how far before
        add     $2, %rsi
        mov     %edx, %ecx
        and     $15, %ecx
        length
        add     $4, %ecx
        mov     %rsi, %r10
        mov     %rdi, %rsi
        sub     %r9, %rsi
        cmp     $8, %r9d
        jb      repeat
        copy
        mov     %r10, %rsi
        jmp     sequence
repeat: mov     (%rsi), %al
        mov     %al, (%rdi)
        inc     %rsi
        inc     %rdi
        dec     %ecx
        jnz     repeat
        mov     %r10, %rsi
        jmp     sequence

zeros:  mov     $KERNEL + SIZE, %ecx
        sub     %edi, %ecx
        shr     $3, %ecx
        xor     %eax, %eax
        cld
        rep stosq
        mov     %ebx, %esi
        mov     $KERNEL, %eax
        jmp     *%rax

        .balign 8
gdt:    .quad   0, 0, 0x00af9a000000ffff, 0x00cf92000000ffff    # as Linux has them: none, none, code, data
gdt_register:
        .word   gdt_register - gdt - 1
        .long   gdt

        .balign 4096                    # the first 4 GiB, each address as it is, in pages of 2 MiB
level4: .quad   level3 + 3
        .balign 4096
level3: .set    n, 0
        .rept   4
        .quad   level2 + n * 4096 + 3
        .set    n, n + 1
        .endr
        .balign 4096
level2: .set    n, 0
        .rept   4 * 512
        .quad   n * 0x200000 + 0x83
        .set    n, n + 1
        .endr

kernel: .incbin "kernel.lz4"
kernel_end:
