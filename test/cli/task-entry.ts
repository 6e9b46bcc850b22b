import { Command, CommanderError } from 'commander'
import { addBatchCommand } from '../../src/cli/batch.ts'
import { describeFailure } from '../../src/cli/report.ts'
import { addTaskCommands } from '../../src/cli/task.ts'

/** The commands for tasks and batches alone, run as the program runs them. */
const program = new Command('autoglm').exitOverride()
const onResult = (code: number) => {
  process.exitCode = code
}
addTaskCommands(program, onResult)
addBatchCommand(program, onResult)
try {
  await program.parseAsync(process.argv.slice(2), { from: 'user' })
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode
  else {
    process.stderr.write(describeFailure(error, process.env.AUTOGLM_DEBUG === '1'))
    process.exitCode = 1
  }
}
