//! The terminal modes of RFC 4254, section 8, and RFC 8160 in the words of Linux.

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios,
};

/// The value of a special character that is switched off.
const DISABLED: u32 = 255;

/// Sets one mode; unknown ones change nothing.
pub(super) fn set(modes: &mut Termios, opcode: u8, argument: u32) {
    let on = argument != 0;
    if let Some(index) = special_code(opcode) {
        let character = if argument == DISABLED { 0 } else { argument };
        if let Ok(character) = u8::try_from(character) {
            modes.special_codes[index] = character;
        }
    } else if let Some(mode) = input_mode(opcode) {
        modes.input_modes.set(mode, on);
    } else if let Some(mode) = local_mode(opcode) {
        modes.local_modes.set(mode, on);
    } else if let Some(mode) = output_mode(opcode) {
        modes.output_modes.set(mode, on);
    } else {
        set_line(modes, opcode, argument);
    }
}

fn special_code(opcode: u8) -> Option<SpecialCodeIndex> {
    Some(match opcode {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        16 => SpecialCodeIndex::VSWTC,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input_mode(opcode: u8) -> Option<InputModes> {
    Some(match opcode {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        37 => InputModes::IUCLC,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        // RFC 8160.
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(opcode: u8) -> Option<LocalModes> {
    Some(match opcode {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        52 => LocalModes::XCASE,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output_mode(opcode: u8) -> Option<OutputModes> {
    Some(match opcode {
        70 => OutputModes::OPOST,
        71 => OutputModes::OLCUC,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

/// What a serial line would do. Speeds matter to programs that draw slowly for slow lines; a speed
/// of 0 would mean to hang up.
fn set_line(modes: &mut Termios, opcode: u8, argument: u32) {
    let on = argument != 0;
    match opcode {
        90 if on => set_character_size(modes, ControlModes::CS7),
        91 if on => set_character_size(modes, ControlModes::CS8),
        92 => modes.control_modes.set(ControlModes::PARENB, on),
        93 => modes.control_modes.set(ControlModes::PARODD, on),
        // A speed that cannot be set stays as it is.
        128 if on => drop(modes.set_input_speed(argument)),
        129 if on => drop(modes.set_output_speed(argument)),
        _ => {}
    }
}

fn set_character_size(modes: &mut Termios, size: ControlModes) {
    modes.control_modes.remove(ControlModes::CSIZE);
    modes.control_modes.insert(size);
}
