import { strict as assert } from 'node:assert'
import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, watch, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { watchConfig } from '../../src/config/watch.ts'
import type { Service } from '../../src/core/service.ts'
import { ManualClock } from '../helpers/clock.ts'

/** A clock that tells when a timer was set: that is when the watcher has seen something. */
class TellingClock extends ManualClock {
  #told: (() => void)[] = []

  override after(ms: number, run: () => void): () => void {
    const cancel = super.after(ms, run)
    for (const tell of this.#told.splice(0)) tell()
    return cancel
  }

  async timerSet(): Promise<void> {
    if (this.pending > 0) return
    await new Promise<void>((resolve) => this.#told.push(resolve))
  }
}

describe('a watched configuration file', () => {
  let folder: string
  let file: string
  let clock: TellingClock
  let changes: string[]
  let watcher: Service

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'autoglm-watch-'))
    file = join(folder, 'autoglm.yaml')
    writeFileSync(file, 'a: 1\n')
    clock = new TellingClock()
    changes = []
    watcher = watchConfig({ file, clock, onChange: (reason) => changes.push(reason) })
  })
  afterEach(async () => {
    await watcher.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const settle = async () => {
    await clock.timerSet()
    clock.advance(200)
  }

  it('tells once of a save in several steps', async () => {
    await watcher.start()
    writeFileSync(file, '')
    writeFileSync(file, 'a: 2\n')
    await settle()
    assert.deepEqual(changes, ['saved'])
  })

  it('tells when an editor puts a new file in its place, and again the next time', async () => {
    await watcher.start()
    for (const round of [1, 2]) {
      writeFileSync(join(folder, '.autoglm.yaml.swp'), `b: ${round}\n`)
      renameSync(join(folder, '.autoglm.yaml.swp'), file)
      await settle()
      // Events of the same save that came after the check set one more timer and find nothing new.
      clock.advance(200)
      assert.equal(changes.length, round)
    }
  })

  it('tells when a link that it lies behind is turned, as Kubernetes does', async () => {
    writeFileSync(join(folder, 'one'), 'a: 1\n')
    writeFileSync(join(folder, 'two'), 'a: 2\n')
    unlinkSync(file)
    symlinkSync('..data', file)
    symlinkSync('one', join(folder, '..data'))
    await watcher.start()
    symlinkSync('two', join(folder, '..data_tmp'))
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
    await settle()
    assert.deepEqual(changes, ['saved'])
  })

  it('says nothing when another file changes, or the same text is saved', async () => {
    await watcher.start()
    writeFileSync(join(folder, 'other'), 'x')
    await settle()
    writeFileSync(file, 'a: 1\n')
    await settle()
    assert.deepEqual(changes, [])
  })

  it('says nothing when the file disappears', async () => {
    await watcher.start()
    rmSync(file)
    await settle()
    assert.deepEqual(changes, [])
  })

  it('tells of SIGHUP, also without a file', async () => {
    watcher = watchConfig({ file: null, clock, onChange: (reason) => changes.push(reason) })
    await watcher.start()
    const hangup = once(process, 'SIGHUP')
    process.kill(process.pid, 'SIGHUP')
    await hangup
    assert.deepEqual(changes, ['hangup'])
    await watcher.stop()
    assert.equal(process.listenerCount('SIGHUP'), 0)
  })

  it('may stop before it starts, and twice', async () => {
    await watcher.stop()
    await watcher.start()
    await watcher.stop()
    await watcher.stop()
    const witness = watch(folder)
    const seen = once(witness, 'change')
    writeFileSync(file, 'a: 3\n')
    await seen
    witness.close()
    assert.equal(clock.pending, 0)
  })

  it('says when it cannot watch', async () => {
    const blind: Error[] = []
    const gone = join(folder, 'gone', 'autoglm.yaml')
    watcher = watchConfig({ file: gone, clock, onChange: () => {}, onBlind: (error) => blind.push(error) })
    await watcher.start()
    assert.equal(blind.length, 1)
  })
})
