import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { Cancellation, type CancelSignal } from '../../src/core/cancellation.ts'

/** A cancellation must be as good as the real thing, as far as it goes: both are held to the same. */
const makers: Record<string, () => { signal: CancelSignal; abort: () => void }> = {
  Cancellation: () => {
    const cancellation = new Cancellation()
    return { signal: cancellation, abort: () => cancellation.abort() }
  },
  AbortController: () => {
    const controller = new AbortController()
    return { signal: controller.signal, abort: () => controller.abort() }
  },
}

for (const [name, make] of Object.entries(makers)) {
  describe(name, () => {
    const heard: string[] = []
    const listen = (signal: CancelSignal, what: string) => {
      const listener = () => void heard.push(what)
      signal.addEventListener('abort', listener)
      return () => signal.removeEventListener('abort', listener)
    }

    it('tells all who listen, in their order and once', () => {
      heard.length = 0
      const { signal, abort } = make()
      for (const what of ['a', 'b', 'c']) listen(signal, what)
      assert.equal(signal.aborted, false)
      abort()
      abort()
      assert.deepEqual([signal.aborted, heard], [true, ['a', 'b', 'c']])
    })

    it('tells nobody who has left, and nobody who comes too late', () => {
      heard.length = 0
      const { signal, abort } = make()
      const leaves = ['a', 'b', 'c', 'd'].map((what) => listen(signal, what))
      leaves[0]?.()
      leaves[2]?.()
      leaves[2]?.()
      listen(signal, 'e')
      abort()
      listen(signal, 'late')
      abort()
      assert.deepEqual(heard, ['b', 'd', 'e'])
    })

    it('is aborted when its listeners hear of it, and one may take another out', () => {
      heard.length = 0
      const { signal, abort } = make()
      const leaves: (() => void)[] = []
      signal.addEventListener('abort', () => {
        heard.push(String(signal.aborted))
        for (const leave of leaves) leave()
      })
      leaves.push(listen(signal, 'a'), listen(signal, 'b'))
      abort()
      assert.deepEqual(heard, ['true'])
    })
  })
}
