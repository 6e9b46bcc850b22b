/** A whole GGUF file: one value, one tensor of F32. */
export function makeGguf({ values = 64 } = {}): Buffer {
  const u32 = (value: number) => Buffer.from(new Uint32Array([value]).buffer)
  const u64 = (value: number) => Buffer.from(new BigUint64Array([BigInt(value)]).buffer)
  const text = (value: string) => Buffer.concat([u64(value.length), Buffer.from(value)])
  const head = Buffer.concat([
    ...[Buffer.from('GGUF'), u32(3), u64(1), u64(2)],
    ...[text('general.name'), u32(8), text('x')],
    ...[text('tokens'), u32(9), u32(8), u64(2), text('a'), text('b')],
    ...[text('weight'), u32(1), u64(values), u32(0), u64(0)],
  ])
  const padded = Buffer.alloc(Math.ceil(head.length / 32) * 32 + values * 4, 7)
  head.copy(padded)
  return padded
}
